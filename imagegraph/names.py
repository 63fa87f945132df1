"""Names of containers: which are allowed, and readable ones for those who give none."""

import os
import re

from imagegraph.errors import StoreError

_ADJECTIVES = """
    able agile alert amber ample ancient azure balmy blithe bold brave breezy bright brisk broad
    calm candid careful cheery civil clever copper cosy crisp curious dapper daring deft dewy
    eager early earnest easy elder elegant fabled fair famous fearless fleet fond frank free
    frosty gallant gentle genial glad golden graceful grand grassy hale happy hardy hearty
    hidden honest humble ivory jaunty jolly jovial keen kind limber lively loyal lucky mellow
    merry mighty mild misty modest mossy neat nimble noble patient placid plucky polite proud
    quick quiet rapid rosy rustic serene shaggy silent silver sleek snowy spry steady sturdy
    sunny swift tidy upbeat witty
""".split()

_CATTLE = """
    abondance afrikaner alentejana angeln angus ankole arouquesa aubrac aurochs ayrshire banteng
    barrosa bazadaise beefmaster bison bonsmara boran braford brahman brangus braunvieh buffalo
    bullock busha cachena calf canadienne charolais chianina corriente criollo devon dexter
    droughtmaster drover fleckvieh friesian fulani galloway gascon gaur gelbvieh gir guernsey
    guzerat hallikar hanwoo heifer hereford highland holstein istrian jersey kankrej kerry
    kouprey kuri lakenvelder limousin longhorn lowline luing maremmana marchigiana maronesa
    mashona minhota mirandesa montbeliarde morucha murnau ndama nelore nguni normande ongole
    parthenaise piedmontese pineywoods pinzgauer podolica randall retinta romagnola romosinuano
    sahiwal salers sanga sayaguesa shorthorn simmental sindhi sussex tarentaise telemark
    tharparkar tudanca tuli tyrolean vosgienne wagyu watusi yak yaroslavl zebu
""".split()


def valid(name: str) -> bool:
    """Whether Docker would take `name` for a container: two characters or more, letters first."""
    return re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", name) is not None


def check(name: str) -> None:
    """Raises StoreError for a name that is not valid."""
    if not valid(name):
        raise StoreError(
            f"invalid container name {name[:64]!r}: take two or more letters, digits, '_', '.' and"
            " '-', a letter or digit first"
        )


def random_name() -> str:
    """An adjective and a breed of cattle, e.g. brave_highland; it may well be taken already."""
    return f"{_pick(_ADJECTIVES)}_{_pick(_CATTLE)}"


def _pick(words: list[str]) -> str:
    # `random` takes longer to import than the whole of this takes to run.
    return words[int.from_bytes(os.urandom(4), "big") % len(words)]
