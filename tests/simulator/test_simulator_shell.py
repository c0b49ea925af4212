"""The simulated shell against /bin/bash, and against zsh's documented differences."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BASH = shutil.which("bash")
HOSTILE = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12) | st.text(
    st.sampled_from(list("ab '\"\\$`*?[]{}()<>|&;!#~=\n\t-%^@,.é’☃")), max_size=10
)

SAME_IN_BASH = [
    "echo one; echo two",
    "echo a   b 'c  d' \"e  f\"",
    "false || echo fell; true && echo went",
    "! false; echo $?",
    "x=5; echo $x ${x} \"$x\" '$x' \\$x",
    "x='a b  c'; for w in $x; do echo [$w]; done",
    "x='a b'; printf '<%s>' \"$x\" $x; echo",
    "echo ${missing:-fallback} ${missing-other} [${missing:+set}]",
    "x=file.tar.gz; echo ${x%.gz} ${x%%.*} ${x#*.} ${x##*.} ${#x}",
    "x=aXbXc; echo ${x/X/-} ${x//X/-}",
    "echo $(echo in; echo side) \"$(printf 'a\\nb\\n\\n')\"",
    "echo `echo old` \"`echo 'q u'`\"",
    "(exit 7); echo $?",
    "(x=1; cd /; echo $x); echo [$x]",
    "{ echo a; echo b; } | wc -l | tr -d ' '",
    "if false; then echo 1; elif true; then echo 2; else echo 3; fi",
    "i=0; while [ $i -lt 3 ]; do echo $i; i=$((i+1)); done",
    "until true; do echo never; done; echo end",
    "for i in 1 2 3 4; do [ $i = 2 ] && continue; [ $i = 4 ] && break; echo $i; done",
    "case foo.txt in *.md) echo md;; *.txt|*.text) echo txt;; *) echo other;; esac",
    "echo to file > f; echo more >> f; cat f; cat < f | head -1",
    "echo err 1>&2 2>/dev/null; { echo out; echo err >&2; } 2>&1 | sort",
    "ls /nonexistent 2>/dev/null || echo absent",
    "cat <<EOF\nvalue $((1+2)) $HOME_IS_UNSET\nEOF",
    "cat <<'EOF'\nvalue $((1+2)) `x`\nEOF",
    "cat <<-EOF\n\tindented\n\tEOF",
    'cat <<< "here $((6*7))"',
    "echo $((2+3*4)) $(( (2+3)*4 )) $((7/2)) $((-7/2)) $((-7%3)) $((1<<4)) $((5>3 ? 10 : 20))",
    'f() { echo "got $1 of $#"; return 3; }; f a b; echo $?',
    'set -- a \'b c\' d; echo $# "$2"; shift; echo "$@"; for x in "$@"; do echo "<$x>"; done',
    "set -e; echo before; false; echo after",
    "set -e; false || true; if false; then :; fi; ! true; echo alive",
    "echo a{b,c,d}e {1..4} x{1,2}{a,b} {} {a} '{a,b}'",
    "touch x1 x2 y1; echo x* ?1 [xy]1 z* 'x*' \\x*",
    "VAR=inner sh -c 'echo $VAR'; echo [$VAR]",
    "export V=1; sh -c 'echo $V'; unset V; sh -c 'echo [$V]'",
    "sh -c 'echo $0 $1 $2' name one two",
    "printf 'a\\nb\\nc\\n' | while read -r line; do echo \"<$line>\"; done",
    "echo 'a b c' | { read x y; echo \"$x|$y\"; }",
    "eval 'echo ev; x=2'; echo $x",
    "trap 'echo bye' EXIT; echo hi; exit 4",
    "true & wait; echo $?",
    "sh -c 'exit 5' & wait $!; echo $?",
    "echo \"a\\\"b\\$c\\d\" 'it'\\''s' $'tab\\there\\x41'",
    "echo # comment\necho a#b '#c'",
    "echo one \\\n two th\\\nree",
    "echo ~ | grep -c /; x=~; [ \"$x\" = ~ ] && echo tilde; echo '~' a~b",
    "false | true; echo $?; set -o pipefail; false | true; echo $?",
    "cd /; pwd; cd /tmp && pwd; cd - >/dev/null; pwd",
    "printf '%s-%s\\n' a b c; printf '%05d|%-5s|%x|%%\\n' 42 ab 255",
    "[ -z '' -a -n x ] && echo and; [ a = b -o 1 -lt 2 ] && echo or; [ ! -e /nonexistent ] && echo not",
    "exec 2>/dev/null; cat /nonexistent; echo $?",
    "x=1 y=2; echo $x$y; x=$(false); echo $?",
    "echo a;;echo b",
    "if true; then echo x",
    "echo 'unclosed",
    "yes | head -2",
]


@pytest.mark.skipif(BASH is None, reason="bash is not installed: it is the judge here")
@pytest.mark.parametrize("script", SAME_IN_BASH)
def test_bash_agrees(bench, tmp_path: Path, script: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8"}
    judged = subprocess.run(
        [BASH, "-c", script], cwd=home, env=environment, capture_output=True, timeout=20, check=False
    )
    for folder in bench.disk.path("/Users/admin").iterdir():
        folder.rename(tmp_path / folder.name)
    ours = bench.sh(script, dialect="bash")
    wanted = judged.stdout.replace(str(home).encode(), b"/Users/admin")
    assert (ours.stdout, ours.code) == (wanted, judged.returncode), ours.stderr
    assert bool(ours.stderr) == bool(judged.stderr)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(HOSTILE, min_size=1, max_size=4))
@pytest.mark.parametrize("dialect", ["zsh", "bash"])
def test_quoted_words_arrive_exactly(bench, dialect: str, words: list[str]) -> None:
    bench.calls.clear()
    line = " ".join(shlex.quote(word) for word in words)
    if dialect == "zsh":  # shlex thinks "=" harmless; in zsh a word that begins with it is a command's path
        line = " ".join(
            f"'{word}'" if word[:1] == "=" and shlex.quote(word) == word else shlex.quote(word) for word in words
        )
    ran = bench.sh("argv " + line, dialect=dialect)
    assert ran.stderr == b""
    assert bench.calls == [words]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from(list("ab$(){}[]<>|&;!'\"`\\#*?= \n1if")), max_size=25))
def test_any_text_ends_with_a_code(bench, text: str) -> None:
    ran = bench.sh(text, timeout=10)
    assert 0 <= ran.code <= 255


class TestZsh:
    def test_parameters_are_not_split(self, bench) -> None:
        bench.sh("x='a b'; argv $x")
        assert bench.calls == [["a b"]]

    def test_substitutions_are_split(self, bench) -> None:
        bench.sh("argv $(echo a b)")
        assert bench.calls == [["a", "b"]]

    def test_an_empty_parameter_vanishes(self, bench) -> None:
        bench.sh('x=; argv $x "$x" end')
        assert bench.calls == [["", "end"]]

    def test_no_match_is_an_error_and_ends_the_line(self, bench) -> None:
        ran = bench.sh("echo *.nothing; echo after")
        assert (ran.code, ran.stdout) == (1, b"")
        assert ran.stderr == b"zsh:1: no matches found: *.nothing\n"

    def test_equals_is_a_path(self, bench) -> None:
        assert bench.sh("echo =ls").text == "/bin/ls\n"
        ran = bench.sh("echo =nosuchthing")
        assert (ran.code, ran.stderr) == (1, b"zsh:1: nosuchthing not found\n")
        assert bench.sh("[ a == a ] && echo same").stderr == b"zsh:1: = not found\n"

    def test_echo_reads_backslashes(self, bench) -> None:
        assert bench.sh(r"echo 'a\tb'").text == "a\tb\n"
        assert bench.sh(r"echo 'a\tb'", dialect="bash").text == "a\\tb\n"

    def test_the_last_of_a_pipeline_is_the_shell_itself(self, bench) -> None:
        assert bench.sh("echo v | read x; echo $x").text == "v\n"
        assert bench.sh("echo v | read x; echo [$x]", dialect="bash").text == "[]\n"

    @pytest.mark.parametrize(
        "script",
        ["[[ -f x ]]", "echo ${(f)x}", "x=(1 2)", "diff <(a) <(b)", "echo $x[1]", "echo ${x:h}", "echo $x:h", "((1+1))",
         "echo $[1+1]", "select x in a; do :; done", "fi", "echo )", "a &&", "| b", "> ", "for 1 in a; do b; done"],
    )  # fmt: skip
    def test_what_it_does_not_know_is_refused_whole(self, bench, script: str) -> None:
        ran = bench.sh(f"echo first; {script}")
        assert ran.code == 1
        assert ran.stdout == b""
        assert ran.stderr.startswith(b"zsh:1: ")


def test_an_endless_writer_ends_with_its_reader(bench) -> None:
    assert bench.sh("yes | head -1; echo done").text == "y\ndone\n"


def test_a_pipe_holds_little(bench) -> None:
    ran = bench.sh("dd if=/dev/zero bs=1m count=20 2>/dev/null | wc -c")
    assert ran.text.strip() == str(20 * 1024 * 1024)


def test_interpreters_have_their_dialect(bench) -> None:
    assert bench.sh('sh -c \'x="a b"; printf "<%s>" $x\'').text == "<a><b>"
    assert bench.sh('zsh -c \'x="a b"; printf "<%s>" $x\'').text == "<a b>"
    assert bench.sh("bash -lc 'echo $0'").text == "bash\n"


def test_a_background_job_goes_on_and_can_be_awaited(bench) -> None:
    ran = bench.sh("sh -c 'sleep 0.05; echo late > f' > /dev/null 2>&1 & echo first; wait; cat f")
    assert ran.text == "first\nlate\n"
