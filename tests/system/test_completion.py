# SPDX-License-Identifier: Apache-2.0
"""What zsh and fish offer for the beginning of a command: the shells themselves are asked, not the scripts read."""
import os
import pty
import select
import shutil
import subprocess

import pytest

from rig.gateway import BUILD, wait_until


def script(shell):
    return subprocess.run([BUILD / "postern", "completion", shell], stdout=subprocess.PIPE, text=True, check=True).stdout


class Fish:
    def __init__(self, folder):
        self.folder = folder
        (folder / "postern.fish").write_text(script("fish"))

    def offers(self, line):
        done = subprocess.run(["fish", "--no-config", "-c", f"source {self.folder}/postern.fish; complete -C '{line}'"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, cwd=self.folder, timeout=120, env={**os.environ, "HOME": str(self.folder)})
        assert done.returncode == 0 and not done.stderr, done.stderr
        return sorted(row.split("\t")[0] for row in done.stdout.splitlines())

    def close(self):
        pass


# each call that adds matches writes them down; those that only sort matches into arrays are as ever
ZSH = """
PROMPT= RPROMPT= ; unsetopt beep list_beep; zmodload zsh/complist
fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D
compadd () {{
  if [[ " ${{@[1,(i)(-|--)]}} " == *\\ -(O|A|D)* ]]; then builtin compadd "$@"; return; fi
  local -a hits; builtin compadd -A hits "$@"; (( $#hits )) && print -rl -- $hits >> {folder}/hits
  builtin compadd "$@"
}}
zstyle ':completion:*' menu no; bindkey -e
PATH={build}:$PATH; cd {folder}
print ready > {folder}/ready
"""


class Zsh:
    """An interactive shell on a terminal of its own."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "_postern").write_text(script("zsh"))
        (folder / "setup").write_text(ZSH.format(folder=folder, build=BUILD))
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(HOME=str(folder), TERM="dumb", LC_ALL="C.UTF-8")
            os.execvp("zsh", ["zsh", "-f", "-i"])
        self.say(f"source {folder}/setup\n")
        self.wait(folder / "ready")

    def say(self, text):
        os.write(self.fd, text.encode())

    def wait(self, path):
        def there():
            while select.select([self.fd], [], [], 0)[0]:  # what it paints is of no interest, but must be read
                os.read(self.fd, 65536)
            return path.exists()
        wait_until(there, f"zsh wrote {path.name}")

    def offers(self, line):
        hits, done = self.folder / "hits", self.folder / "done"
        for path in (hits, done):
            path.unlink(missing_ok=True)
        self.say(f"{line}\t\x15print done > {done}\n")  # ^U throws the line away
        self.wait(done)
        return sorted(set(hits.read_text().split("\n")) - {""}) if hits.exists() else []

    def close(self):
        os.close(self.fd)
        os.waitpid(self.pid, 0)


@pytest.fixture(params=[Fish, Zsh], ids=["fish", "zsh"])
def shell(request, tmp_path):
    if not shutil.which(request.param.__name__.lower()):
        pytest.skip("the shell is not here: tools/packages test")
    one = request.param(tmp_path)
    yield one
    one.close()


def test_the_shell_offers_what_there_is(shell, tmp_path):
    (tmp_path / "mine.yaml").write_text("")
    nouns = shell.offers("postern ")
    assert {"status", "queue", "trace", "shadow", "config"} <= set(nouns) and "list" not in nouns, nouns
    assert shell.offers("postern que") == ["queue"]
    assert shell.offers("postern queue re") == ["release", "retry"]
    assert shell.offers("postern block ") == ["doc", "list"]
    drop = shell.offers("postern queue drop --")
    assert {"--dry-run", "--to", "--older"} <= {word.split("=")[0].split(":")[0] for word in drop}, drop
    assert shell.offers("postern completion ") == ["bash", "fish", "zsh"]
    assert shell.offers("postern docs ev") == ["events"]
    # zsh may break off at what is typed behind the tab
    wait_until(lambda: "mine.yaml" in shell.offers("postern check mi"), "a file is offered")
    wait_until(lambda: "mine.yaml" in shell.offers("postern send --file mi"), "a file is offered for an option")
    assert "mine.yaml" not in shell.offers("postern queue list mi")
    assert shell.offers("postern nonsense li") == [], "of what is no command nothing is known"
