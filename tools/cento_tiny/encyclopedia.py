"""Worlds of fictional entries, their documents, and questions and conversations about them.

A `World` is what one prompt's documents are about: up to eight entities, some with names and facts
easily mistaken for each other's, some mentioning one another. Everything is drawn from the
`random.Random` given, so a seed names its world for good.
"""

import re
from dataclasses import dataclass, field

from .schema import (ADJECTIVES, COUNTS, FRAMES, KINDS, NOT_TOLD, OFF_TOPIC, PREFIXES, SMALL_TALK,
                     WORD_STYLE)

SENTENCES_MIN, SENTENCES_MAX = 5, 12
BARE_VALUES = ("river",)  # "the Vell" is a value as "Vell": templates bring the article


@dataclass(eq=False)  # an entity is itself only
class Entity:
    kind: object
    name: str
    pronoun: tuple  # subject, object, possessive
    words: tuple  # the invented words of the name
    frame: str = ""
    facts: dict = field(default_factory=dict)  # relation key -> value, only what the document tells
    document: str = ""

    def relations(self, told):
        return [r for r in self.kind.relations if (r.key in self.facts) == told]


@dataclass
class Turn:
    query: str
    answer: str
    entity: Entity = None  # what "it" in the next question would mean
    relation: object = None
    told: bool = False


@dataclass
class World:
    entities: list
    names: object
    mentions: set = field(default_factory=set)  # names that stand as values in some document


def sentence(text, end="."):
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return text[0].upper() + text[1:] + end


def as_subject(name):
    return {"s": name, "o": name, "p": name + "'s"}


def as_pronoun(pronoun):
    return dict(zip("sop", pronoun))


# --- names and values -----------------------------------------------------------------------------


def make_name(kind_key, rng, names, like=None):
    """(name, words, frame) of an entry or value; `like` is an entity to resemble."""
    if kind_key == "person":
        first = like.words[0] if like and rng.random() < 0.5 else names.word("first")
        if like and first != like.words[0]:
            if rng.random() < 0.5:
                first = names.word_like(like.words[0], "first")
            last = like.words[1]
        else:
            last = names.word_like(like.words[1], "surname") if like and rng.random() < 0.6 else names.word("surname")
        return f"{first} {last}", (first, last), ""
    frames, style = FRAMES[kind_key], WORD_STYLE[kind_key]
    frame = rng.choice(frames)
    if like and rng.random() < 0.4 and len(set(frames)) > 1:  # the same word, framed otherwise
        word = like.words[0]
        frame = rng.choice([f for f in frames if f != like.frame and "{w2}" not in f])
    elif like:
        word, frame = names.word_like(like.words[0], style), like.frame
    else:
        word = names.word(style)
    second = names.word(style) if "{w2}" in frame else None
    return frame.format(w=word, w2=second), (word,), frame


def value_name(value_kind, name):
    return name.removeprefix("the ") if value_kind in BARE_VALUES else name


def make_number(low, high, form, rng):
    if high > 20 * low:  # populations and the like: every magnitude as likely
        number = int(low * (high / low) ** rng.random())
    else:
        number = rng.randint(low, high)
    digits = f"{number:,}" if form.startswith("comma") else str(number)
    form = form.removeprefix("comma").strip() or "{}"
    return digits if form == "plain" else form.format(digits)


def make_value(relation, entity, world, rng):
    kind = relation.value
    if isinstance(kind, list):
        return rng.choice(kind)
    if isinstance(kind, tuple):
        return make_number(*kind, rng)
    others = [e for e in world.entities if e.kind.key == kind and e is not entity]
    draw = rng.random()
    if others and draw < 0.4:
        return value_name(kind, rng.choice(others).name)
    if others and draw < 0.5:
        return value_name(kind, make_name(kind, rng, world.names, rng.choice(others))[0])
    return value_name(kind, make_name(kind, rng, world.names)[0])


# --- documents ------------------------------------------------------------------------------------


def fill_slots(template, rng, names, **given):
    """Fills a template's slots; a filler's years, people and places are new each time."""
    slots = dict(given)
    for slot in re.findall(r"\{(\w+)\}", template):
        if slot in slots:
            continue
        if slot.startswith("adj"):
            slots[slot] = rng.choice(ADJECTIVES)
        elif slot.startswith("year"):
            slots[slot] = str(rng.randint(1500, 1999))
        elif slot == "num":
            slots[slot] = rng.choice(COUNTS) if rng.random() < 0.5 else str(rng.randint(2, 99))
        elif slot == "person":
            slots[slot] = make_name("person", rng, names)[0]
        elif slot == "place":
            slots[slot] = names.word("town")
    return template.format(**slots)


class Writer:
    """Writes one entity's document, keeping track of whether a pronoun would be understood."""

    def __init__(self, entity, rng, names):
        self.entity, self.rng, self.names = entity, rng, names
        self.on_entity = False

    def refer(self):
        entity, draw = self.entity, self.rng.random()
        if draw < (0.5 if self.on_entity else 0.12):
            return as_pronoun(entity.pronoun)
        if draw < 0.65 and entity.kind.key != "person":
            return as_subject("the " + entity.kind.noun)
        if draw < 0.62 and entity.kind.key == "person":
            return as_subject(entity.words[1])
        return as_subject(entity.name)

    def intro(self):
        text = fill_slots(self.rng.choice(self.entity.kind.intros), self.rng, self.names, **as_subject(self.entity.name))
        self.on_entity = True
        return sentence(text)

    def intro_with_fact(self, relation):
        noun, clause = self.entity.kind.noun, self.rng.choice(relation.clauses)
        text = f"{self.entity.name}, a {self.rng.choice(ADJECTIVES)} {noun}, " + clause.format(v=self.entity.facts[relation.key])
        self.on_entity = True
        return sentence(text)

    def fact(self, relation):
        rng, subject, value = self.rng, self.refer(), self.entity.facts[relation.key]
        if rng.random() < 0.55:
            text = subject["s"] + " " + rng.choice(relation.clauses).format(v=value)
        else:
            text = rng.choice(relation.says).format(v=value, **subject)
        if rng.random() < 0.1:
            text = rng.choice(PREFIXES) + text
        self.on_entity = True
        return sentence(text)

    def two_facts(self, first, second):
        rng, facts = self.rng, self.entity.facts
        clauses = [rng.choice(r.clauses).format(v=facts[r.key]) for r in (first, second)]
        joint = rng.choice((" and ", " and ", ", and " + self.entity.pronoun[0] + " ", "; " + self.entity.pronoun[0] + " "))
        text = self.refer()["s"] + " " + joint.join(clauses)
        self.on_entity = True
        return sentence(text)

    def filler(self, template):
        self.on_entity = False
        return sentence(fill_slots(template, self.rng, self.names))


def write_document(entity, rng, names, short=False):
    """The text of a document that tells all of entity.facts and nothing else that can be asked."""
    writer = Writer(entity, rng, names)
    relations = entity.relations(told=True)
    rng.shuffle(relations)
    units = []
    opening = relations.pop() if rng.random() < 0.2 else None
    while relations:
        if len(relations) > 1 and rng.random() < 0.25:
            units.append((relations.pop(), relations.pop()))
        else:
            units.append((relations.pop(),))
    target = rng.randint(2, 4) if short else rng.randint(SENTENCES_MIN, SENTENCES_MAX)
    fillers = rng.sample(entity.kind.fillers, min(len(entity.kind.fillers), max(0, target - 1 - len(units))))
    for template in fillers:
        units.insert(rng.randint(0, len(units)), template)
    sentences = [writer.intro_with_fact(opening) if opening else writer.intro()]
    for unit in units:
        if isinstance(unit, str):
            sentences.append(writer.filler(unit))
        else:
            sentences.append(writer.fact(*unit) if len(unit) == 1 else writer.two_facts(*unit))
    if rng.random() < 0.12 and len(sentences) > 6:  # a paragraph break
        cut = rng.randint(3, len(sentences) - 3)
        text = " ".join(sentences[:cut]) + "\n" + " ".join(sentences[cut:])
    else:
        text = " ".join(sentences)
    if rng.random() < 0.12:
        text = sentence(entity.name, "") + "\n" + text
    return text


def make_world(rng, names, count, short_rate=0.0):
    """A world of `count` entities. Half of the worlds have one or two kinds only: hard distractors."""
    pool = list(KINDS.values())
    if rng.random() < 0.5:
        pool = rng.sample(pool, rng.choice((1, 2)))
    world = World([], names)
    for _ in range(count):
        kind = rng.choice(pool)
        alike = [e for e in world.entities if e.kind is kind]
        taken = {e.name for e in world.entities}
        while True:
            like = rng.choice(alike) if alike and rng.random() < 0.35 else None
            name, words, frame = make_name(kind.key, rng, names, like)
            if name not in taken:
                break
        world.entities.append(Entity(kind, name, rng.choice(kind.pronouns), words, frame))
    for entity in world.entities:
        short = rng.random() < short_rate
        count_told = rng.randint(1, 3) if short else rng.randint(3, len(entity.kind.relations))
        told = [r for r in entity.kind.relations if r.always]
        told += rng.sample([r for r in entity.kind.relations if not r.always], max(1, count_told - len(told)))
        used = set()
        for relation in told:
            while True:
                value = make_value(relation, entity, world, rng)
                if value not in used:
                    break
            used.add(value)
            entity.facts[relation.key] = value
            if isinstance(relation.value, str):
                world.mentions.add(value)
        entity.document = write_document(entity, rng, names, short)
    return world


# --- questions ------------------------------------------------------------------------------------


def ask(entity, relation, rng, told, pronoun=False):
    templates = list(relation.asks)
    if told:
        templates += relation.ask_only_if_told
    who = as_pronoun(entity.pronoun) if pronoun else as_subject(entity.name)
    query = sentence(rng.choice(templates).format(**who), "")
    answer = sentence(entity.name + " " + relation.clauses[0].format(v=entity.facts[relation.key])) if told else NOT_TOLD
    return Turn(query, answer, entity, relation, told)


def is_mentioned(entity, world):
    return value_name(entity.kind.key, entity.name) in world.mentions


def untold_relations(entity, world):
    """Relations that may be asked in vain: a name's mention elsewhere might hint at another name."""
    relations = entity.relations(told=False)
    if is_mentioned(entity, world):
        relations = [r for r in relations if not isinstance(r.value, str)]
    return relations


def absent_entity(entities, rng, world):
    """An entity that no document is about, often one that sounds like one of them."""
    names = world.names
    outside = [e for e in world.entities if e not in entities]
    if outside and rng.random() < 0.3:
        return rng.choice(outside), None
    like = rng.choice(entities) if entities and rng.random() < 0.6 else None
    kind = like.kind if like else rng.choice(list(KINDS.values()))
    taken = {e.name for e in world.entities}
    while True:
        name, words, frame = make_name(kind.key, rng, names, like)
        if name not in taken:
            return Entity(kind, name, rng.choice(kind.pronouns), words, frame), like


def unanswerable(entities, rng, world):
    draw = rng.random()
    if draw < 0.03:
        return Turn(rng.choice(OFF_TOPIC), NOT_TOLD)
    if draw < 0.5 and entities:
        entity = rng.choice(entities)
        if draw < 0.15:
            query = sentence(rng.choice(entity.kind.unlisted).format(**as_subject(entity.name)), "")
            return Turn(query, NOT_TOLD, entity)
        relations = untold_relations(entity, world)
        if relations:
            return ask(entity, rng.choice(relations), rng, told=False)
    absent, like = absent_entity(entities, rng, world)
    relations = like.relations(told=True) if like and rng.random() < 0.8 else absent.kind.relations
    if is_mentioned(absent, world):
        relations = [r for r in relations if not isinstance(r.value, str)] or absent.kind.relations[2:3]
    relation = rng.choice(relations)
    query = rng.choice(relation.asks + relation.ask_only_if_told).format(**as_subject(absent.name))
    return Turn(sentence(query, ""), NOT_TOLD)


def answerable(entities, rng):
    entity = rng.choice(entities)
    return ask(entity, rng.choice(entity.relations(told=True)), rng, told=True)


def first_turn(entities, rng, world, unanswerable_rate):
    if not entities or rng.random() < unanswerable_rate:
        return unanswerable(entities, rng, world)
    return answerable(entities, rng)


def pronoun_turn(previous, rng, world, unanswerable_rate):
    """A further question about the entity of the turn before, by pronoun."""
    entity = previous.entity
    told = [r for r in entity.relations(told=True) if r is not previous.relation]
    untold = [r for r in untold_relations(entity, world) if r is not previous.relation]
    if not told and not untold:
        return None
    is_told = bool(told) and (not untold or rng.random() < 1 - unanswerable_rate)
    turn = ask(entity, rng.choice(told if is_told else untold), rng, is_told, pronoun=True)
    if rng.random() < 0.5:
        turn.query = "And " + turn.query[0].lower() + turn.query[1:]
    return turn


def what_about_turn(previous, entities, rng, world):
    """ "What about X?": the relation of the turn before, asked of another entity of its kind."""
    relation = previous.relation
    others = [e for e in entities if relation and e.kind is previous.entity.kind and e is not previous.entity
              and (relation.key in e.facts or relation in untold_relations(e, world))]
    if not others:
        return None
    other = rng.choice(others)
    turn = ask(other, relation, rng, relation.key in other.facts)
    turn.query = rng.choice(("What about {}?", "And {}?", "And what about {}?")).format(other.name)
    return turn


def small_talk(rng, which):
    queries, answer = SMALL_TALK[which]
    return Turn(rng.choice(queries), answer)


def follow_up(previous, entities, rng, world, unanswerable_rate):
    draw, turn = rng.random(), None
    if previous.entity and draw < 0.6:
        turn = pronoun_turn(previous, rng, world, unanswerable_rate)
    elif previous.relation and draw < 0.75:
        turn = what_about_turn(previous, entities, rng, world)
    return turn or first_turn(entities, rng, world, unanswerable_rate)


def conversation(entities, rng, world, turns, unanswerable_rate=0.12, small_talk_rate=0.0):
    """A list of Turns about `entities` (those of the world whose documents are in the prompt)."""
    talk = []
    if rng.random() < small_talk_rate:
        talk.append(small_talk(rng, rng.choice((0, 0, 1, 3))))
        if rng.random() < 0.5:
            return talk
    talk.append(first_turn(entities, rng, world, unanswerable_rate))
    previous = talk[-1]
    for _ in range(turns - 1):
        if rng.random() < small_talk_rate:
            talk.append(small_talk(rng, rng.choice((1, 1, 2))))
            continue  # thanks do not change what "it" means
        previous = follow_up(previous, entities, rng, world, unanswerable_rate)
        talk.append(previous)
    return talk
