"""`dltrain completion bash|zsh|fish`: a script for the shell, and what it asks for the words to offer. Imports no torch.

The script hands the words up to the cursor to `dltrain __complete -- WORD...` and gets a line for each word that the
last one can become, and after a tab what it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dltrain.commands.options import Options
from dltrain.config.composition import compose_files
from dltrain.config.groups import COMPOSING, OVERLAYS, config_dir, groups, summary
from dltrain.config.schema import as_yaml
from dltrain.config.source_keys import OWNER, SOURCE, full_key, has_listed
from dltrain.errors import UsageError
from dltrain.runs.folder import all_runs

log = logging.getLogger("dltrain")
Offer = tuple[str, str]  # a word, and what it is
OF_A_RUN = ("evaluate", "predict", "resume")  # verbs whose first word is a run

# COMP_WORDS is cut at every = (COMP_WORDBREAKS), so the line itself is read; and readline replaces only what follows the
# last break, so that much is taken off what is offered.
BASH = """_dltrain() {
  local IFS=$' \\t' line="${COMP_LINE:0:COMP_POINT}" words word offer broken=""
  read -ra words <<< "$line"
  [[ "$line" == *[[:blank:]] ]] && words+=("")
  word="${words[${#words[@]}-1]}"
  [[ "$COMP_WORDBREAKS" == *=* && "$word" == *=* ]] && broken="${word%"${word##*=}"}"
  COMPREPLY=()
  while IFS=$'\\t' read -r offer _; do
    COMPREPLY+=("${offer#"$broken"}")
    [[ "$offer" == *[=.] || "$offer" == *=\\[* ]] && compopt -o nospace 2>/dev/null
  done < <("$1" __complete -- "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _dltrain dltrain
"""
ZSH = """#compdef dltrain
_dltrain() {
  local line word
  local -a open closed open_text closed_text
  for line in "${(@f)$("${words[1]}" __complete -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}"; do
    word="${line%%$'\\t'*}"
    [[ -z "$word" ]] && continue
    if [[ "$word" == *[=.] || "$word" == *=\\[* ]]; then
      open+=("$word") open_text+=("${line/$'\\t'/  }")
    else
      closed+=("$word") closed_text+=("${line/$'\\t'/  }")
    fi
  done
  (( $#open + $#closed )) || { _files; return }
  compadd -S '' -l -d open_text -a open
  compadd -l -d closed_text -a closed
}
compdef _dltrain dltrain
"""
FISH = """function __dltrain_complete
  set -l words (commandline -opc)
  set -l offers ($words[1] __complete -- $words[2..-1] (commandline -ct) 2>/dev/null)
  test (count $offers) -gt 0; and printf '%s\\n' $offers; or __fish_complete_path (commandline -ct)
end
complete -c dltrain -f -a '(__dltrain_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
INSTALL = {
    "bash": 'eval "$(dltrain completion bash)"    in ~/.bashrc',
    "zsh": 'eval "$(dltrain completion zsh)"    in ~/.zshrc, after compinit',
    "fish": "dltrain completion fish > ~/.config/fish/completions/dltrain.fish",
}


def completion(options: Options) -> None:
    shell = options.names[0] if options.names else ""
    if shell not in SCRIPTS:
        lines = "\n".join(f"  {line}" for line in INSTALL.values())
        raise UsageError(f"completion for which shell? One of {', '.join(SCRIPTS)}\n{lines}")
    log.info(SCRIPTS[shell].rstrip())
    options.outcome.update({"shell": shell})


def complete(options: Options) -> None:
    """A line for each word that the last of the words typed so far can become; none where a file is to be named."""
    *typed, word = options.names or [""]
    typed = [w for w in typed if w]
    folders = [typed[i + 1] for i, flag in enumerate(typed[:-1]) if flag == "--config-dir"]
    folders += [flag.partition("=")[2] for flag in typed if flag.startswith("--config-dir=")]
    with config_dir(folders[-1] if folders else None):
        for offer, text in offers(typed, word):
            if offer.startswith(word):
                log.info(f"{offer}\t{text}")


def offers(typed: list[str], word: str) -> Iterator[Offer]:
    """What could stand where `word` stands after `typed`; words that do not begin with it are sorted out later."""
    from dltrain.cli import FLAGS, VALUED, VERBS

    verbs = [name for name in typed if name in VERBS][:1]
    verb = verbs[0] if verbs else ""
    named = (
        [name for name in typed[typed.index(verb) + 1 :] if not name.startswith("-")]
        if verb
        else []
    )
    if typed and typed[-1] in VALUED:
        return
    if word.startswith("-"):
        yield from ((flag, "") for flag in FLAGS | VALUED)
    elif verb == "completion":
        yield from ((shell, line) for shell, line in INSTALL.items())
    elif verb == "list":
        yield from ((group, ", ".join(options)) for group, options in groups().items() if options)
    elif verb == "show":
        yield from shown(typed, word)
    elif verb in OF_A_RUN and not named:
        yield from runs(typed)
    elif verb != "predict" or "=" in word or "." in word:  # what it takes beside settings are files
        if not typed:
            yield from ((name, v.help) for name, v in VERBS.items())
        yield from settings(typed, word, several="-m" in typed or "--multirun" in typed)


def settings(typed: list[str], word: str, several: bool) -> Iterator[Offer]:
    """GROUP= and KEY=, and after the = what it can be; with `several` values also after a comma."""
    key, has_value, value = word.partition("=")
    if not has_value:
        yield from keys(typed, key)
    elif key in groups():
        before = ""
        if several or (key in COMPOSING and value.startswith("[")):
            opened = value.startswith("[")
            before = value[: max(value.rfind(",") + 1, opened)]
        taken = before.strip("[,").split(",")
        left = [option for option in groups()[key] if option not in taken]
        yield from ((f"{key}={before}{option}", summary(key, option)) for option in left)
    elif key == "init.from":
        yield from ((f"{key}={run}", text) for run, text in runs(typed))
    else:
        found: Any = configuration(typed)
        for part in full_key(key, has_listed(found)).split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if isinstance(found, bool):
            yield from ((f"{key}={value}", "") for value in ("true", "false"))


def keys(typed: list[str], word: str) -> Iterator[Offer]:
    """The groups to choose from and the settings beside them; below a group that is named already, its keys."""
    parent, _, _ = word.rpartition(".")
    node = configuration(typed)
    for part in parent.split(".") if parent else []:
        child = node.get(part)
        node = child if isinstance(child, dict) else {}
    if parent == OWNER and isinstance(node.get(SOURCE), dict):
        node = node[SOURCE] | node  # the keys of its source may be written without `source.`
    above = f"{parent}." if parent else ""
    node = node if parent else node | dict.fromkeys(OVERLAYS)
    for name, value in node.items():
        if name.startswith("_") or name == "defaults":
            continue
        below = [key for key in value if not key.startswith("_")] if isinstance(value, dict) else []
        options = groups().get(name, []) if not parent else []
        if len(options) > 1:
            yield f"{name}=", ", ".join(options)
        elif below:
            yield f"{above}{name}.", ", ".join(below)
        else:
            yield f"{above}{name}=", "" if isinstance(value, dict) else f"now {as_yaml(value)}"


def shown(typed: list[str], word: str) -> Iterator[Offer]:
    """What `show` takes: keys and GROUP/OPTION."""
    group, slash, _ = word.partition("/")
    if slash:
        yield from (
            (f"{group}/{option}", summary(group, option)) for option in groups().get(group, [])
        )
        return
    for offer, text in keys(typed, word):
        yield offer.rstrip("="), text


def configuration(typed: list[str]) -> dict[str, Any]:
    """The files' values for what was chosen so far: {group: node}, and the settings that are in no group."""
    words = [word.partition("=") for word in typed]
    asked = {
        group: value.strip("[]").split(",")
        for group, _, value in words
        if value and group in groups()
    }
    return compose_files(
        {group: [o for o in options if o in groups()[group]] for group, options in asked.items()}
    )[0]


def runs(typed: list[str]) -> Iterator[Offer]:
    """Names of runs, the newest first."""
    root = Path("outputs")
    for word in typed:
        if word.startswith("paths.output="):
            root = Path(word.partition("=")[2]).expanduser()
    found = all_runs(root)
    if found:
        yield "last", f"the newest: {found[-1]}"
    for run in reversed(found):
        name = run.relative_to(root)
        yield (run.name if not run.name.isdigit() else "/".join(name.parts[-2:])), str(name)
