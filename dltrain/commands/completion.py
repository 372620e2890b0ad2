"""`dltrain completion bash|zsh|fish`: a script for the shell, and the words that it offers.

The script passes the words up to the cursor to `dltrain __complete -- WORD...` and gets a line for
each word that the last one can become: the word, a tab, and what it is. Imports no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from dltrain.config.composing.composition import compose_files
from dltrain.config.composing.source_keys import OWNER, SOURCE, full_key, has_listed
from dltrain.config.groups import COMPOSING, OVERLAYS, config_dir, groups, summary
from dltrain.config.schema import as_yaml
from dltrain.errors import UsageError
from dltrain.options import Options
from dltrain.runs.find import LAST, LAST_ANY, all_runs, last_run
from dltrain.verbs import FLAGS, RUN_VERBS, VERBS

log = logging.getLogger("dltrain")
Offer = tuple[str, str]  # a word, and what it is

# Keys whose values have names, and what each is. Their signatures would have to import torch.
NAMED_VALUES = {
    "device.compile": {
        "off": "",
        "model": "each network by torch.compile",
        "step": "networks, and a whole step as a CUDA graph",
        "auto": "model on a GPU",
    },
    "device.precision": {
        "fp32": "",
        "tf32": "fp32 with products rounded to TF32, on NVIDIA GPUs since Ampere",
        "bf16": "forward passes in bfloat16",
        "fp16": "forward passes in half precision, with loss scaling",
        "auto": "the fastest of this machine",
    },
}

# bash cuts COMP_WORDS at every = (COMP_WORDBREAKS), so the script reads the line itself. readline
# replaces only what follows the last break, so the script takes what is before it off the offers,
# unless the word begins with a quotation mark: then readline replaces all that follows the mark.
BASH = """_dltrain() {
  local IFS=$' \\t' line="${COMP_LINE:0:COMP_POINT}" words word offer broken="" quoted=""
  read -ra words <<< "$line"
  [[ "$line" == *[[:blank:]] ]] && words+=("")
  word="${words[${#words[@]}-1]}"
  [[ "$word" == [\\"\\']* ]] && quoted=yes
  words=("${words[@]//[\\"\\'\\\\]/}")
  word="${words[${#words[@]}-1]}"
  [[ -z "$quoted" && "$COMP_WORDBREAKS" == *=* && "$word" == *=* ]] &&
    broken="${word%"${word##*=}"}"
  COMPREPLY=()
  while IFS=$'\\t' read -r offer _; do
    [[ "$offer" == *[=.,] ]] && compopt -o nospace 2>/dev/null
    offer="${offer#"$broken"}"
    [[ -z "$quoted" ]] && printf -v offer '%q' "$offer" && offer="${offer//\\\\,/,}"
    COMPREPLY+=("$offer")
  done < <("$1" __complete -- "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _dltrain dltrain
"""
ZSH = """#compdef dltrain
_dltrain() {
  local line word
  local -a typed open closed open_text closed_text
  typed=("${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}")
  for line in "${(@f)$("${words[1]}" __complete -- "${typed[@]}" 2>/dev/null)}"; do
    word="${line%%$'\\t'*}"
    [[ -z "$word" ]] && continue
    if [[ "$word" == *[=.,] ]]; then
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
  set -l word (commandline -ct | string replace -ra '["\\'\\\\\\\\]' '')
  set -l offers ($words[1] __complete -- $words[2..-1] $word 2>/dev/null)
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
    """Print the completion script of a shell."""
    shell = options.names[0] if options.names else ""
    if shell not in SCRIPTS:
        lines = "\n".join(f"  {line}" for line in INSTALL.values())
        raise UsageError(f"completion for which shell? One of {', '.join(SCRIPTS)}\n{lines}")
    log.info(SCRIPTS[shell].rstrip())
    options.outcome |= {"shell": shell, "script": SCRIPTS[shell]}


def complete(options: Options) -> None:
    """Print a line for each word that the last typed word can become.

    It prints nothing where the name of a file belongs: the shell completes those itself.
    """
    *typed, word = options.names or [""]
    typed = [one for one in typed if one]
    with config_dir(typed_config_dir(typed)):
        for offer, text in offers(typed, word):
            if offer.startswith(word):
                log.info(f"{offer}\t{text}")


def typed_config_dir(typed: list[str]) -> str | None:
    """Return the folder of the last --config-dir, or None."""
    folder = None
    for flag, following in pairwise([*typed, ""]):
        if flag == "--config-dir":
            folder = following or None
        elif flag.startswith("--config-dir="):
            folder = flag.partition("=")[2]
    return folder


def offers(typed: list[str], word: str) -> Iterator[Offer]:
    """Yield what may stand where `word` stands after `typed`, whatever it begins with."""
    if typed and takes_value(typed[-1]):
        return
    if word.startswith("-"):
        yield from ((flag, "") for flag in FLAGS)
        return
    if not typed:
        yield from ((name, one.help) for name, one in VERBS.items())
    verb, names = split_verb(typed)
    if verb in RUN_VERBS and not names:
        yield from run_offers(typed)
    else:
        yield from VERB_OFFERS.get(verb, setting_offers)(typed, word)


def takes_value(word: str) -> bool:
    """Tell if a word is a flag whose value, a file or a number, follows."""
    return word in FLAGS and bool(FLAGS[word].example) and not FLAGS[word].optional


def shell_offers(typed: list[str], word: str) -> Iterator[Offer]:
    """Yield the words after `completion`: the shells."""
    yield from INSTALL.items()


def page_offers(typed: list[str], word: str) -> Iterator[Offer]:
    """Yield the words after `help`: the verbs."""
    yield from ((name, one.help) for name, one in VERBS.items())


def schema_offers(typed: list[str], word: str) -> Iterator[Offer]:
    """Yield the words after `schema`: the kinds of files."""
    yield "config", "a configuration, or an experiment"
    yield from group_offers(typed, word)


def file_verb_offers(typed: list[str], word: str) -> Iterator[Offer]:
    """Yield settings after `predict RUN`, where a word may also be a file or a text."""
    if "=" in word or "." in word:
        yield from setting_offers(typed, word)


def group_offers(typed: list[str], word: str) -> Iterator[Offer]:
    """Yield the words after `list`: the groups that have options."""
    for group, options in groups().items():
        if options:
            yield group, ", ".join(options)


def split_verb(typed: list[str]) -> tuple[str, list[str]]:
    """Return the verb among the typed words, empty if there is none, and the words after it."""
    for i, name in enumerate(typed):
        if name in VERBS:
            return name, [word for word in typed[i + 1 :] if not word.startswith("-")]
    return "", []


def setting_offers(typed: list[str], word: str) -> Iterator[Offer]:
    """Yield GROUP= and KEY=; after the = the values that have names."""
    key, equals, value = word.partition("=")
    if not equals:
        yield from key_offers(typed, key)
    elif key in groups():
        yield from option_offers(typed, key, value)
    elif key == "init.from":
        yield from ((f"{key}={run}", text) for run, text in run_offers(typed))
    elif key in NAMED_VALUES:
        yield from ((f"{key}={name}", text) for name, text in NAMED_VALUES[key].items())
    elif isinstance(value_of(typed, key), bool):
        yield f"{key}=true", ""
        yield f"{key}=false", ""


def option_offers(typed: list[str], group: str, value: str) -> Iterator[Offer]:
    """Yield GROUP=OPTION; after a comma where several options may be named, one that is not yet.

    The only option that fits into a list is offered with its bracket and with a comma: two offers,
    so that a shell neither ends the word nor closes its quotation mark.
    """
    may_list = value.startswith("[") and group in COMPOSING
    may_sweep = "-m" in typed or "--multirun" in typed
    before = typed_part(value) if may_list or may_sweep else ""
    named = before.strip("[,").split(",")
    options = [option for option in groups()[group] if option not in named]
    fitting = [option for option in options if option.startswith(value.removeprefix(before))]
    if may_list and len(fitting) == 1:
        (option,) = fitting
        yield f"{group}={before}{option}]", summary(group, option)
        yield f"{group}={before}{option},", "and another"
        return
    for option in options:
        yield f"{group}={before}{option}", summary(group, option)


def typed_part(value: str) -> str:
    """Return what is before the last option of a value: up to the last comma, or the bracket."""
    if "," in value:
        return value[: value.rindex(",") + 1]
    return value[: int(value.startswith("["))]


def value_of(typed: list[str], key: str) -> Any:
    """Return the value of a key in the files chosen so far, or None."""
    node: Any = chosen_files(typed)
    for part in full_key(key, has_listed(node)).split("."):
        if not isinstance(node, dict):
            return None
        node = node.get(part)
    return node


def key_offers(typed: list[str], word: str) -> Iterator[Offer]:
    """Yield the groups and the keys outside groups; after `GROUP.` the keys below it."""
    parent = word.rpartition(".")[0]
    if parent:
        yield from keys_below(typed, parent)
        return
    for name, value in (chosen_files(typed) | dict.fromkeys(OVERLAYS)).items():
        options = groups().get(name, [])
        if len(options) > 1:
            yield f"{name}=", ", ".join(options)
        else:
            yield from key_offer(name, name, value)


def keys_below(typed: list[str], parent: str) -> Iterator[Offer]:
    """Yield the keys below a group or a node."""
    node = value_of(typed, parent)
    if not isinstance(node, dict):
        return
    if parent == OWNER and isinstance(node.get(SOURCE), dict):
        node = node[SOURCE] | node  # `source.` may be left out of the keys of its source
    for name, value in node.items():
        yield from key_offer(f"{parent}.{name}", name, value)


def key_offer(path: str, name: str, value: Any) -> Iterator[Offer]:
    """Yield a key with its value, or with a dot and the keys below it; nothing if it is not one."""
    if name.startswith("_") or name == "defaults":
        return
    if not isinstance(value, dict):
        yield f"{path}=", f"now {as_yaml(value)}"
        return
    below = [key for key in value if not key.startswith("_")]
    if below:
        yield f"{path}.", ", ".join(below)
    else:
        yield f"{path}=", ""


def show_offers(typed: list[str], word: str) -> Iterator[Offer]:
    """Yield the words after `show`: keys and GROUP/OPTION."""
    group, slash, _ = word.partition("/")
    if slash:
        for option in groups().get(group, []):
            yield f"{group}/{option}", summary(group, option)
        return
    for offer, text in key_offers(typed, word):
        yield offer.rstrip("="), text


def chosen_files(typed: list[str]) -> dict[str, Any]:
    """Return the values of the files chosen so far: groups, and the settings outside groups."""
    choices = {}
    for word in typed:
        group, _, value = word.partition("=")
        if value and group in groups():
            named = value.strip("[]").split(",")
            choices[group] = [option for option in named if option in groups()[group]]
    return compose_files(choices)[0]


def run_offers(typed: list[str]) -> Iterator[Offer]:
    """Yield the names of runs, the newest first."""
    root = output_folder(typed)
    runs = all_runs(root)
    newest = last_run(runs)
    if newest is not None:
        yield LAST, f"the newest, without debug runs: {newest}"
    if runs:
        yield LAST_ANY, f"the newest: {runs[-1]}"
    for run in reversed(runs):
        path = run.relative_to(root)
        name = run.name
        if name.isdigit():  # a job of a sweep
            name = "/".join(path.parts[-2:])
        yield name, str(path)


def output_folder(typed: list[str]) -> Path:
    """Return the folder of all runs, as the typed words set it."""
    root = Path("outputs")
    for word in typed:
        if word.startswith("paths.output="):
            root = Path(word.partition("=")[2]).expanduser()
    return root


def compared_offers(typed: list[str], word: str) -> Iterator[Offer]:
    """Yield the runs after `compare`."""
    yield from run_offers(typed)


def listed_offers(typed: list[str], word: str) -> Iterator[Offer]:
    """Yield the runs after `runs --delete`; otherwise the shell completes a folder."""
    if "--delete" in typed:
        yield from run_offers(typed)


VERB_OFFERS: dict[str, Callable[[list[str], str], Iterator[Offer]]] = {
    "predict": file_verb_offers,
    "compare": compared_offers,
    "runs": listed_offers,
    "generate": file_verb_offers,
    "completion": shell_offers,
    "help": page_offers,
    "schema": schema_offers,
    "list": group_offers,
    "show": show_offers,
}
