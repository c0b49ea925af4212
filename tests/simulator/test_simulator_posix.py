"""The generic commands, where the harness relies on them, in the forms of macOS."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

GREP = shutil.which("grep")
SED = shutil.which("sed")
LINES = "alpha 1\nbeta 22\nGamma 333\n\nalpha beta\na.b*c\n[x] (y) {z}\n"


def test_ls_long_form(bench) -> None:
    bench.sh("mkdir d; echo hi > f; chmod 640 f; ln -s f l; touch .hidden")
    lines = bench.sh("ls -la").text.splitlines()
    assert re.fullmatch(r"total \d+", lines[0])
    row = next(line for line in lines if line.endswith(" f"))
    assert re.fullmatch(r"-rw-r-----  1 admin  staff +3 [A-Z][a-z]{2} [ \d]\d \d\d:\d\d f", row)
    assert any(line.endswith(" l -> f") and line.startswith("l") for line in lines)
    assert bench.sh("ls").text == "Desktop\nDocuments\nDownloads\nLibrary\nd\nf\nl\n"
    assert ".hidden\n" in bench.sh("ls -a").text
    assert re.search(r"drwxr-xr-x +\d+ root +wheel +sunlnk +\d+ .* /Library$", bench.sh("ls -ldO /Library").text, re.M)
    missing = bench.sh("ls nope")
    assert (missing.code, missing.stderr) == (1, b"ls: nope: No such file or directory\n")


def test_stat_formats(bench) -> None:
    bench.sh("printf 12345 > f; chmod 755 f")
    assert bench.sh("stat -f '%z %Su %Sg %Sp %Lp %N %HT' f").text == "5 admin staff -rwxr-xr-x 755 f Regular File\n"
    assert int(bench.sh("stat -f %m f").text) == int((bench.disk.path("/Users/admin/f")).stat().st_mtime)
    assert bench.sh("stat -f %Su /dev/console").text == "root\n"
    assert bench.sh("stat nope").stderr == b"stat: nope: stat: No such file or directory\n"


def test_copies_keep_modes_links_and_refuse_folders(bench) -> None:
    bench.sh("mkdir -p a/b; echo x > a/b/f; chmod 711 a/b/f; ln -s b/f a/l")
    assert bench.sh("cp a z").stderr == b"cp: a is a directory (not copied).\n"
    assert bench.sh("cp -Rp a z; cat z/l; stat -f %Lp z/b/f; readlink z/l").text == "x\n711\nb/f\n"
    assert bench.sh("cp -R a/ into; ls into").text == "b\nl\n"  # BSD: with a slash the contents
    assert bench.sh("mkdir have; cp -R a have; ls have").text == "a\n"
    assert bench.sh("mv z moved && ls -d moved; ls z").code == 1


def test_rights(bench) -> None:
    ran = bench.sh("touch /Library/x")
    assert (ran.code, ran.stderr) == (1, b"touch: /Library/x: Permission denied\n")
    assert bench.sh("echo x > /Library/x").stderr == b"zsh:1: permission denied: /Library/x\n"
    assert bench.sh("sudo touch /Library/x && ls /Library/x").text == "/Library/x\n"
    assert bench.sh("sudo sh -c 'echo secret > /private/var/root/f'; cat /private/var/root/f").stderr.endswith(
        b"Permission denied\n"
    )
    assert bench.sh("rm -rf /Library/x").code == 1
    assert bench.sh("sudo rm -rf /Library/x").code == 0


def test_a_full_disk(make_bench) -> None:
    bench = make_bench(full_after_bytes=1000)
    assert bench.sh("dd if=/dev/zero of=big bs=600 count=1").code == 0
    ran = bench.sh("cp big copy")
    assert (ran.code, ran.stderr) == (1, b"cp: copy: No space left on device\n")
    assert bench.sh("echo hello > small; echo $?").text != "0\n"
    assert b"No space left" in bench.sh("tar -cf out.tar big").stderr
    assert bench.sh("df -k | tail -1").text.split()[3] == "0"
    bench.sh("rm -f big copy")
    assert bench.sh("echo fits > small; cat small").text == "fits\n"


class TestSudo:
    def test_without_a_password_the_input_is_the_commands(self, bench) -> None:
        assert bench.sh("sudo -S -p '' cat", stdin=b"all of it\n").text == "all of it\n"
        assert bench.sh("sudo -n id -un; sudo -u admin whoami; sudo -E -H -- whoami").text == "root\nadmin\nroot\n"

    def test_somebody_else_needs_one(self, bench) -> None:
        refused = bench.sh("sudo -n id", user="guest")
        assert (refused.code, refused.stderr) == (1, b"sudo: a password is required\n")
        wrong = bench.sh("sudo -S -p '' id", user="guest", stdin=b"a\nb\nc\n")
        assert wrong.code == 1
        assert wrong.stderr == b"Sorry, try again.\n" * 3 + b"sudo: 3 incorrect password attempts\n"

    def test_environment_and_unknown_commands(self, bench) -> None:
        assert "A=1" in bench.sh("sudo A=1 env").text.split()
        assert "B=2" not in bench.sh("B=2 sudo env").text.split()
        missing = bench.sh("sudo nosuch")
        assert (missing.code, missing.stderr) == (1, b"sudo: nosuch: command not found\n")


def test_digests(bench) -> None:
    data = os.urandom(700_001)
    bench.disk.path("/Users/admin/f").write_bytes(data)
    assert bench.sh("shasum -a 256 f").text == f"{hashlib.sha256(data).hexdigest()}  f\n"
    assert bench.sh("shasum -a 256 < f").text == f"{hashlib.sha256(data).hexdigest()}  -\n"
    assert bench.sh("md5 -q f").text == hashlib.md5(data).hexdigest() + "\n"
    assert bench.sh("shasum -a 256 f > s; shasum -a 256 -c s").text == "f: OK\n"
    assert bench.sh("shasum nope").code == 1


class TestTar:
    def test_there_and_back(self, bench, tmp_path: Path) -> None:
        bench.sh(
            "mkdir -p t/sub; echo one > t/sub/f; chmod 750 t/sub/f; ln -s sub/f t/l; dd if=/dev/urandom of=t/big bs=1m count=3"
        )
        bench.sh("tar -czf t.tgz -C t .; mkdir back; tar -xzf t.tgz -C back")
        assert (
            bench.sh("cmp t/big back/big && stat -f %Lp back/sub/f && readlink back/l && cat back/l").text
            == "750\nsub/f\none\n"
        )
        with tarfile.open(bench.disk.path("/Users/admin/t.tgz")) as archive:  # and strangers can read it
            assert {"./sub/f", "./l", "./big"} <= set(archive.getnames())
            assert archive.getmember("./sub/f").uname == "admin"

    def test_through_pipes(self, bench) -> None:
        assert bench.sh("mkdir p; echo q > p/f; tar -cf - p | (cd /tmp && tar -xf -); cat /tmp/p/f").text == "q\n"
        assert bench.sh("tar -cf - p | tar -tf -").text == "p/\np/f\n"

    def test_broken_ones_fail(self, bench) -> None:
        bench.sh("mkdir p; echo q > p/f; tar -czf t.tgz p; head -c 60 t.tgz > half")
        assert bench.sh("tar -xzf half").code == 1
        assert bench.sh("tar -cf x.tar nope").code == 1


@pytest.mark.skipif(GREP is None, reason="grep is not installed: it is the judge here")
@pytest.mark.parametrize(
    "arguments",
    ["alpha", "-c alpha", "-v a", "-i gamma", "-n beta", "-E 'al(pha|x) [0-9]+'", "-F 'a.b*c'", "-o '[0-9]*'", "-w 1",
     "-x 'alpha 1'", "-q alpha", "zzz", "-e one -e beta", "'^a'", "'a$'", "'[[:digit:]]\\{2,\\}'", "-A1 beta", "-B1 Gamma",
     "-E '^$|z'", "'\\[x\\]'", "-m1 a", "-E '[^]a]'", "-nE 'a|b'", "'a\\.b\\*c'", "'(y)'"],
)  # fmt: skip
def test_grep_agrees(bench, arguments: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    judged = subprocess.run(
        ["sh", "-c", f"grep {arguments}"], input=LINES.encode(), capture_output=True, env=environment, check=False
    )
    ours = bench.sh(f"grep {arguments}", stdin=LINES.encode(), dialect="bash")
    assert (ours.stdout, ours.code) == (judged.stdout, judged.returncode)


@pytest.mark.skipif(SED is None, reason="sed is not installed: it is the judge here")
@pytest.mark.parametrize(
    "arguments",
    ["s/alpha/A/", "s/a/X/g", "-n 2p", "-n '2,3p'", "'/beta/d'", "'$d'", "-n '$p'", "2q", "'s/\\(a\\)\\(l\\)/\\2\\1/'",
     "-E 's/([a-z]+) ([0-9]+)/\\2 \\1/'", "'s|a|/|2'", "'/Gamma/,/alpha/s/a/_/'", "'s/b/[&]/gp'", "-n '/a/='", "'3!d'",
     "-e s/a/1/ -e s/b/2/", "y/abc/xyz/", "'1d;2d'"],
)  # fmt: skip
def test_sed_agrees(bench, arguments: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    judged = subprocess.run(
        ["sh", "-c", f"sed {arguments}"], input=LINES.encode(), capture_output=True, env=environment, check=False
    )
    ours = bench.sh(f"sed {arguments}", stdin=LINES.encode(), dialect="bash")
    assert (ours.stdout, ours.code) == (judged.stdout, judged.returncode)


@pytest.mark.parametrize(
    "script",
    ["sort", "sort -r", "sort -u", "sort -k2", "uniq -c | tr -s ' '", "cut -d' ' -f2", "cut -c1-3", "tr a-z A-Z", "tr -d aeiou",
     "tr -cd 'a-z\\n'", "head -n 2", "head -c 5", "tail -n 2", "tail -n +3", "tail -1", "wc | tr -s ' '", "tee /dev/null",
     "xargs", "xargs -n1 echo", "xargs -I{} echo '<{}>'", "cat -n | head -2"],
)  # fmt: skip
def test_filters_agree(bench, script: str) -> None:
    text = "b 2\na 1\na 1\nc 3\n"
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    judged = subprocess.run(
        ["sh", "-c", script], input=text.encode(), capture_output=True, env=environment, check=False
    )
    ours = bench.sh(script, stdin=text.encode(), dialect="bash")
    assert (ours.text.replace("  ", " ").strip(), ours.code) == (
        judged.stdout.decode().replace("  ", " ").strip(),
        judged.returncode,
    )


def test_find(bench) -> None:
    bench.sh("mkdir -p r/x/y; touch r/a.txt r/x/b.txt r/x/y/c.md; ln -s a.txt r/l; touch -t 202001010000 r/old")
    assert bench.sh("find r -name '*.txt'").text == "r/a.txt\nr/x/b.txt\n"
    assert bench.sh("find r -type d -maxdepth 1").text == "r\nr/x\n"
    assert bench.sh("find r -type f -newer r/old ! -name '*.md'").text == "r/a.txt\nr/x/b.txt\n"
    assert bench.sh("find r -mmin +60").text == "r/old\n"
    assert bench.sh("find r -name '*.md' -print0").text == "r/x/y/c.md\0"
    assert bench.sh("find r \\( -name a.txt -o -type l \\) -exec echo {} \\;").text == "r/a.txt\nr/l\n"
    assert bench.sh("find r -name x -prune -o -type f -print").text == "r/a.txt\nr/old\n"
    assert bench.sh("find r -type f -exec echo {} +").text.count("\n") == 1
    assert bench.sh("find r -name '*.txt' -delete; find r -name '*.txt'").text == ""
    assert bench.sh("find nope").stderr == b"find: nope: No such file or directory\n"
    assert bench.sh("find r -nonsense x").code == 1


def test_tail_follows(bench) -> None:
    script = "echo one > f; (for x in two three four; do sleep 0.2; echo $x >> f; done) & tail -n 5 -f f | head -2"
    assert bench.sh(script).text == "one\ntwo\n"


def test_odds_and_ends(bench) -> None:
    assert bench.sh("basename /a/b.txt .txt; dirname /a/b; basename /; dirname x; dirname /").text == "b\n/a\n/\n.\n/\n"
    assert bench.sh("id -u; id -un; whoami; sudo id -u").text == "501\nadmin\nadmin\n0\n"
    assert bench.sh("uname; uname -m").text == "Darwin\narm64\n"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d\n", bench.sh("date +%Y-%m-%d").text)
    assert bench.sh("date -u -r 0 '+%Y-%m-%d %H:%M:%S %Z'").text == "1970-01-01 00:00:00 UTC\n"
    assert bench.sh("TZ=x env -i A=b env").text == "A=b\n"
    assert bench.sh("command -v ls; which nosuch; command -v nosuch").text == "/bin/ls\nnosuch not found\n"
    assert bench.sh("d=$(mktemp -d) && [ -d $d ] && f=$(mktemp /tmp/x.XXXXXX) && [ -f $f ] && echo ok").text == "ok\n"
    assert bench.sh("nosuchcommand; echo $?").text == "127\n"
    assert (
        bench.sh("chmod u+x,go-rwx f 2>/dev/null; touch f; chmod 600 f; chmod u+x,g=r f; stat -f %Lp f").text == "740\n"
    )
    assert (
        bench.sh("gzip -c < /dev/null | gunzip -c; echo data > f; gzip f; ls f.gz; gunzip f.gz; cat f").text
        == "f.gz\ndata\n"
    )
