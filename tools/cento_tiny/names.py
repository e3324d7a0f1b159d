"""Invented words and the split that keeps held-out ones out of training.

Every proper word of a document comes from `Names.word()`: syllables strung together, or an English
stem with a place ending ("Crystalton"). A word belongs to the training split or to the held-out
split by its SHA-256 and to nothing else, so the two never share one, whatever the seeds. A `Names`
object draws from one split only and never gives the same word twice.
"""

import hashlib

HELD_OUT_PARTS = 8  # one word in eight is held out

ONSETS = ("b bl br c cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sm sn sp st t th tr tw "
          "v w y z").split()
SMOOTH_ONSETS = "b br c d dr f g h k l m n p r s st t tr v w".split()
SMOOTH_CODAS = ["", "", "", "l", "m", "n", "r", "s", "nd", "rn", "st", "th"]
VOWELS = "a a a e e e i i o o o u u ae ai au ea ee ei ia ie io oa oo ou y".split()
CODAS = ["", "", "", "", "", "", "l", "ll", "ld", "lm", "m", "n", "nd", "nt", "nn", "r", "rd", "rk", "rn", "rs", "s",
         "ss", "st", "sk", "th", "t", "tt", "v", "x", "z", "g", "ck"]
STEMS = ("Amber Apple Ash Barley Bell Birch Black Bramble Bright Bronze Cinder Clay Clear Cloud Copper Coral Crane "
         "Crystal Dawn Deep Dove Dusk Eagle East Elder Elm Ember Fair Falcon Fern Flint Fox Frost Glass Gold Grey "
         "Hawk Hazel Heather High Holly Honey Iron Ivy Lark Long Low Maple Marsh Mill Mist Moon Moor Moss New North "
         "Oak Old Otter Pearl Pine Plum Quill Raven Red River Rose Rust Salt Sand Shadow Silver Snow South Spring "
         "Star Still Stone Storm Summer Swan Thistle Thorn West White Wild Willow Wind Winter Wolf Yarrow").split()
ENDINGS = {
    "town": "ton ford bury haven wick mere by holm stead dale field bridge gate port ham well worth cliff".split(),
    "region": "ia enna mark land shire ovia or aria esse onia mere vale wold ana".split(),
    "surname": "son er ell ova wright ard ins ley man ano escu ek und in ez ois berg".split(),
    "first": "a o en is el ina us e ia or an et ik une ra as".split(),
    "river": "e er a en ow ane ir ay".split(),
    "water": "a or en is mar ath une".split(),
    "language": "ish ic ese ian".split(),
    "any": ["", "", "a", "o", "en", "is", "or", "ar", "um", "eth", "ane", "ine"],
}
ACCENTS = {"a": "áâä", "e": "éèê", "i": "íï", "o": "óöø", "u": "úü"}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def is_held_out(word):
    """The split of one word; case counts."""
    return hashlib.sha256(word.encode()).digest()[0] % HELD_OUT_PARTS == 0


class Names:
    """Draws unused invented words of one split. `words` is every word given so far."""

    def __init__(self, rng, held_out=False):
        self.rng = rng
        self.held_out = held_out
        self.words = set()

    def _accept(self, word):
        if word in self.words or is_held_out(word) != self.held_out:
            return False
        self.words.add(word)
        return True

    def _syllables(self, count):
        rng = self.rng
        smooth = rng.random() < 0.6
        onsets, vowels, codas = (SMOOTH_ONSETS, "aeiou", SMOOTH_CODAS) if smooth else (ONSETS, VOWELS, CODAS)
        parts = []
        for index in range(count):
            onset = "" if index == 0 and rng.random() < 0.2 else rng.choice(onsets)
            coda = rng.choice(codas) if index == count - 1 or rng.random() < 0.3 else ""
            parts.append(onset + rng.choice(vowels) + coda)
        return "".join(parts)

    def _candidate(self, style):
        rng = self.rng
        draw = rng.random()
        if draw < 0.03:  # no pattern to lean on: the model must copy letters
            return "".join(rng.choice(LETTERS) for _ in range(rng.randint(4, 8))).capitalize()
        if style in ("town", "region", "surname") and draw < 0.38:
            return rng.choice(STEMS) + rng.choice(ENDINGS[style])
        ending = rng.choice(ENDINGS[style])
        if rng.random() < 0.35:
            ending = ""
        word = self._syllables(rng.choice((1, 2)) if ending else rng.choice((1, 2, 2, 3)))
        if ending and word[-1] in "aeiouy" and ending[0] in "aeiouy":
            word += rng.choice("lnrstv")
        word += ending
        if rng.random() < 0.02:
            spots = [i for i, letter in enumerate(word) if letter in ACCENTS]
            if spots:
                spot = rng.choice(spots)
                word = word[:spot] + rng.choice(ACCENTS[word[spot]]) + word[spot + 1:]
        return word.capitalize()

    def word(self, style="any"):
        while True:
            word = self._candidate(style)
            if 4 <= len(word) <= 13 and self._accept(word):
                return word

    def word_like(self, word, style="any"):
        """A word that is easily mistaken for `word`: another ending, or a letter changed."""
        rng = self.rng
        for _ in range(40):
            if rng.random() < 0.6:
                cut = max(3, len(word) - rng.randint(2, 4))
                other = word[:cut] + rng.choice([e for e in ENDINGS[style] if e] or ["a"])
            else:
                spot = rng.randrange(1, len(word))
                other = word[:spot] + rng.choice(LETTERS) + word[spot + 1:]
            if 4 <= len(other) <= 13 and other != word and self._accept(other):
                return other
        return self.word(style)
