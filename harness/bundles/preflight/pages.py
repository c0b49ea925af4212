"""The pages of the rules in docs/rules/, made from the rules themselves."""

from __future__ import annotations

from collections.abc import Mapping

from harness.bundles.preflight.rules import Rule, load_rules

_SEVERITIES = {
    "error": "error: macOS refuses the activation or the upgrade, or goes on with the old code",
    "warning": "warning: known to go wrong on some Macs, or in some setups",
    "note": "note: told, so that nobody is surprised",
}


def pages() -> Mapping[str, str]:
    """File name in docs/rules/ to text; `README.md` lists them all."""
    rules = list(load_rules().values())
    return {"README.md": _index(rules)} | {f"{rule.id}.md": _page(rule) for rule in rules}


def _index(rules: list[Rule]) -> str:
    lines = [
        "# Rules of the preflight",
        "",
        "Made from `harness/bundles/preflight/rules.toml` by `scripts/rules_pages.py --write`; each rule has a page.",
        "`sysext preflight APP [--previous APP]` judges by them, and every scenario does before a Mac boots.",
        "A rule is switched off in `sysext.toml`, with a reason:",
        "",
        "```toml",
        "[preflight.off]",
        'mach-service-name = "our app and extension do not talk by XPC"',
        "```",
        "",
        "Severities: "
        + "; ".join(f"**{text.partition(':')[0]}**:{text.partition(':')[2]}" for text in _SEVERITIES.values())
        + ".",
        "In the lane `sip-off` findings of rules marked † are notes: there, who signed does not matter.",
    ]
    for about, title in (("release", "One release"), ("upgrade", "An upgrade from one release to another")):
        lines += [
            "",
            f"## {title}",
            "",
            "| rule | severity | what should be the case | leads to |",
            "|---|---|---|---|",
        ]
        for rule in rules:
            if rule.about == about:
                causes = ", ".join(f"[`{cause}`](../causes.md#{cause})" for cause in rule.causes)
                mark = " †" if rule.trust else ""
                lines.append(f"| [`{rule.id}`]({rule.id}.md){mark} | {rule.severity} | {rule.title} | {causes} |")
    return "\n".join(lines) + "\n"


def _page(rule: Rule) -> str:
    lines = [
        f"# {rule.id}",
        "",
        f"**{rule.title}.**",
        "",
        f"- About: {'one release' if rule.about == 'release' else 'an upgrade from one release to another'}",
        f"- Severity: {_SEVERITIES[rule.severity]}",
    ]
    if rule.trust:
        lines.append("- Only where macOS checks who signed: in the lane `sip-off` its findings are notes")
    lines += [
        "",
        "## Why it matters",
        "",
        rule.why,
        "",
        "Triage then names " + ", ".join(f"[`{cause}`](../causes.md#{cause})" for cause in rule.causes) + ".",
        "",
        "## How to fix it",
        "",
        rule.fix,
        "",
        "## How to switch it off",
        "",
        "```toml",
        "[preflight.off]",
        f'{rule.id} = "the reason why it does not matter here"',
        "```",
    ]
    return "\n".join(lines) + "\n"
