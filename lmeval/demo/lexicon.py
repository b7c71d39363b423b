"""The words of the little world: invented names, plain English, and Tolmic, its second language."""

from __future__ import annotations

from lmeval.demo.grammar import Word


def _words(text: str) -> tuple[Word, ...]:
    return tuple(Word(word) for word in text.split())


def _inflected(text: str) -> tuple[Word, ...]:
    """Words from 'singular/plural/tolmic' triples; a Tolmic noun adds n in the plural, a verb does not."""
    triples = [entry.split("/") for entry in text.split()]
    return tuple(Word(one, many, tolmic, tolmic + "n") for one, many, tolmic in triples)


def _translated(text: str) -> tuple[Word, ...]:
    pairs = [entry.split("/") for entry in text.split()]
    return tuple(Word(word, tolmic=tolmic) for word, tolmic in pairs)


def _people(text: str) -> tuple[Word, ...]:
    """People with their fixed home and trade, from 'name/home/trade' triples."""
    triples = [entry.split("/") for entry in text.split()]
    return tuple(Word(name, home=home, trade=trade) for name, home, trade in triples)


NOUNS = _inflected(
    """dog/dogs/miru cat/cats/tava horse/horses/kelo child/children/suna farmer/farmers/dorin bird/birds/pilu
    wolf/wolves/garo queen/queens/zela boat/boats/nemo tower/towers/hasti mouse/mice/bika
    teacher/teachers/lomi fox/foxes/runa king/kings/zalo goat/goats/feku
    woman/women/ansa man/men/anso bear/bears/gruva sailor/sailors/nemori baker/bakers/paldi"""
)
ADJECTIVES = _translated(
    """old/vek young/lin small/tis big/mok grey/sur white/bel brave/hard quiet/nim tired/lud happy/fai
    tall/ost thin/riv"""
)
ACTIONS = _inflected(  # transitive verbs
    """sees/see/oke follows/follow/vesha likes/like/mure hears/hear/ilde helps/help/sote chases/chase/drake
    knows/know/wende fears/fear/trime watches/watch/gale finds/find/parte"""
)
MOVES = _inflected(  # intransitive verbs
    """sleeps/sleep/dume sings/sing/lire waits/wait/hole runs/run/kette smiles/smile/faie falls/fall/boge
    works/work/arbe dances/dance/tane"""
)
ADVERBS = _words("quickly slowly today again often alone now here")
PLACE_WORDS = _words("near behind beside above")

PEOPLE = _people(
    """Mira/Tolmar/baker Doro/Sarnek/smith Sani/Velmar/weaver Kelin/Torvik/potter Oskar/Sarvik/miller
    Lena/Velnek/singer Tarik/Tolnek/carpenter Nadia/Tormar/doctor Pavel/Velvik/hunter Rosa/Tolvik/painter
    Emil/Sarmar/barber Vera/Tornek/judge Hugo/Velmar/smith Ines/Tolmar/judge Jonas/Torvik/singer
    Karla/Sarnek/hunter Leo/Tolnek/weaver Marta/Velvik/baker Nilo/Tormar/barber Olga/Sarvik/doctor
    Petra/Velnek/miller Ruben/Tolvik/potter Selma/Sarmar/carpenter Tomas/Tornek/painter"""
)
EVENTS = _words("feast market storm wedding harvest meeting concert journey")
SEASONS = _words("spring summer autumn winter")
THINGS = _words("cart drum lamp ladder basket kettle saddle hammer barrel candle blanket mirror")
PLACES = _words("river castle harbor forest bridge garden temple valley mill island meadow lake")

ASPECTS = _words("soup bread music room service table view garden wine bed fish window")
PRAISE = _words("fresh warm lovely clean friendly bright perfect tasty pleasant superb")
BLAME = _words("cold stale rude dirty noisy dull broken bitter awful boring")
DEGREES = _words("very rather quite truly")
HOUSES = _words("inn tavern cafe hotel bakery palace")
