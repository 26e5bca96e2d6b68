"""The words of the official scorers: of captions, without Java, and of answers (`vqa_answer`, at the end).

COCO caption scores are computed on what `PTBTokenizer` of pycocoevalcap returns: Stanford CoreNLP
3.4.1's Penn Treebank tokenizer with -preserveLines -lowerCase, less a list of punctuation marks.

    "A man can't find Mr. Smith's dog." -> a man ca n't find mr. smith 's dog

The Java program takes, at each place, the longest of some hundred patterns, the context that a
pattern asks for on its right counted in; here the patterns are regular expressions, written from
what is known of that grammar and corrected by observing the program until no answer differed.
tests/text/test_normalize.py compares again, on real captions, random strings and every character,
wherever Java is installed.

What it does that may surprise:
  * brackets become the words -lrb- -rrb- -lcb- -rcb- -lsb- -rsb- and, lower-cased before the
    list of punctuation is consulted, they stay
  * runs like "!!" and "?!" stay; a lone "!" goes
  * a few words hold a no-break space: "3 1/2", telephone numbers, tags like <br />. BLEU and
    CIDEr of the official scorer split there, ROUGE-L does not
  * a character outside the Basic Multilingual Plane (most emoji) is not a word, and neither are
    control characters, NUL included; both end the word before them, unless it is an address

Where the official code stops, misplaces captions or reads its neighbours, we do not:
  * a lone surrogate stops it (no UTF-8); we read U+FFFD, as Java reads its bytes
  * a caption's end is read together with the next caption: "plan B." before "The ..." loses its
    period, an unclosed `<a b="` swallows it; we read each caption by itself
  * carriage return, form feed, vertical tab, U+0085, U+2028, U+2029 split a caption in two for it
    and shift all later ones to the wrong image; we read a space, as for a newline
"""

import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"]
    + [".", "?", "!", ",", ":", "-", "--", "...", ";"]
)


def ptb_tokenize(caption: str) -> list[str]:
    """The words that the official caption scorer counts."""
    text = _LINE_BREAK.sub(" ", caption)
    astral = not text.isascii() and max(text) > "\ud7ff"
    if astral:  # Java reads UTF-16 units
        text = _SURROGATE.sub("\ufffd", text)
        text = _ASTRAL.sub(_utf16_units, text)
    words = [word for word in _lex(text) if word not in PUNCTUATION]
    if astral:
        words = [
            w.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") for w in words
        ]
    return words


_LINE_BREAK = re.compile("[\n\r\v\f\x85\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


def _utf16_units(match: re.Match) -> str:
    value = ord(match[0]) - 0x10000
    return chr(0xD800 + (value >> 10)) + chr(0xDC00 + (value & 0x3FF))


# --------------------------------------------------------------------------------- the lexer

# Most of a caption: ASCII words with a space on their right, which no longer pattern can claim,
# and the stops between them.
_SPACE = " \\t\\xa0\\u2000-\\u200a\\u3000"
_PLAIN = re.compile(
    rf"(?: [{_SPACE}]*|[A-Za-z][A-Za-z0-9]*(?=[,?!;]?[ \n])|[,?!;](?=[ \n])|\.(?=\n))+"
)
_STOPS = str.maketrans(",?!;.", "     ")
_ASSIMILATED = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "wanna": ("wan", "na"),
    "gotta": ("got", "ta"),
    "lemme": ("lem", "me"),
    "gimme": ("gim", "me"),
}


def _lex(text: str) -> list[str]:
    """Words and punctuation, lower case. Time is linear in the text: see `_Rule.reach`."""
    end = len(text)
    text += "\n\n"  # patterns may look two characters ahead
    words: list[str] = []
    hopeless: dict[int, int] = {}  # a rule with a reach cannot match before this place
    alphanumeric, at = _alphanumeric().match, 0
    while at < end:
        plain = _PLAIN.match(text, at)
        if plain:
            for word in plain[0].lower().translate(_STOPS).split():
                words.extend(_ASSIMILATED.get(word) or (word,))
            at = plain.end()
            continue
        longest, word_end, action = 0, at + 1, _drop
        run_end = alphanumeric(text, at).end()
        for number, matched, reached, acts in _rules_at(
            text[at], text[run_end] if run_end > at else ""
        ):
            if reached and at < hopeless.get(number, 0):
                continue
            match = matched(text, at)
            if match is None:
                if reached:
                    reach = reached(text, at)
                    hopeless[number] = reach.end() if reach else at + 1
            elif match.end() > longest:
                longest, word_end, action = match.end(), match.end(match.lastindex or 0), acts
        if action is not _drop and (word := action(text[at:word_end])):
            words.append(word.lower())
        at = word_end
    return words


class _Rule(NamedTuple):
    first: re.Pattern  # the characters it may start with
    after: re.Pattern | None  # if that is a letter or digit: what may follow the run of them
    pattern: re.Pattern  # what it matches; when it has a group, only the group is the word
    action: Callable[[str], str]
    # Where a failed pattern had read to. It must hold that the pattern fails at every place up to
    # there as well: then no text is read twice, and 10,000 characters cannot cost 10,000^2 steps.
    reach: re.Pattern | None


@functools.cache
def _rules_at(
    first: str, after: str
) -> tuple[tuple[int, Callable, Callable | None, Callable], ...]:
    """Number, pattern's and reach's match, action of the rules that may match there."""
    return tuple(
        (number, rule.pattern.match, rule.reach and rule.reach.match, rule.action)
        for number, rule in enumerate(_rules())
        if rule.first.match(first) and not (after and rule.after and not rule.after.match(after))
    )


@functools.cache
def _alphanumeric() -> re.Pattern:
    return re.compile(f"[{_letters()}{_char_class(_ranges(_LETTER_LIKE))}{_digits()}]*+")


# -------------------------------------------------------------------- what a match turns into


def _keep(text: str) -> str:
    return text


def _drop(text: str) -> str:
    return ""


def _word(text: str) -> str:
    """Soft hyphens go (one alone is a hyphen) and &amp; is read."""
    return re.sub("(?i)&amp;", "&", text.replace("\xad", "")) or "-"


def _spaced(text: str) -> str:
    return text.replace(" ", "\xa0")


def _bracketed(text: str) -> str:
    return _spaced(text).replace("(", "-lrb-").replace(")", "-rrb-")


_QUOTES = str.maketrans(
    dict.fromkeys("\u2018\x91\u201b\u2039", "`")
    | dict.fromkeys("\u2019\x92\u203a", "'")
    | dict.fromkeys("\u201c\x93\xab", "``")
    | dict.fromkeys("\u201d\x94\xbb", "''")
)


def _quotes(text: str) -> str:
    return text.replace("&apos;", "'").translate(_QUOTES)


_SYMBOLS = {
    **dict.fromkeys("\x80\xa4\u20a0\u20ac", "$"),
    "\xa3": "#",
    "\xa2": "cents",
    "\xbc": "1/4",
    "\xbd": "1/2",
    "\xbe": "3/4",
    "\u2153": "1/3",
    "\u2154": "2/3",
    "\u2026": "...",
    **dict(zip("()[]{}", ["-lrb-", "-rrb-", "-lsb-", "-rsb-", "-lcb-", "-rcb-"])),
    **dict(zip('"', ["''"])),
}


def _symbol(text: str) -> str:
    return _SYMBOLS.get(text, text)


def _entity(text: str) -> str:
    return {"&lt;": "<", "&gt;": ">", "&amp;": "&", "&nbsp;": ""}[text.lower()]


def _dashes(text: str) -> str:
    return "--" if len(text) < 5 and text != "-" else text  # a ruler of five or more is kept


def _ellipsis(text: str) -> str:
    return "..."


# --------------------------------------------------------------------------------- characters


def _ranges(text: str) -> list[tuple[int, int]]:
    pairs = (item.partition("-") for item in text.split())
    return [(int(low, 16), int(high or low, 16)) for low, _, high in pairs]


def _char_class(ranges: list[tuple[int, int]]) -> str:
    """The inside of a regular expression's [...]."""
    return "".join(f"\\u{low:04x}-\\u{high:04x}" for low, high in ranges)


@functools.cache
def _letters() -> str:
    return _category("L", without=_NEWER_LETTERS) + "\\u1885\\u1886"  # now marks


@functools.cache
def _digits() -> str:
    return _category("Nd", without=_NEWER_DIGITS)


def _category(name: str, without: str) -> str:
    """A Unicode category as of 2012, when the Java program's tables were made."""
    newer = {point for low, high in _ranges(without) for point in range(low, high + 1)}
    named = (p for p in range(0x10000) if unicodedata.category(chr(p)).startswith(name))
    ranges: list[tuple[int, int]] = []
    for point in named:
        if point in newer:
            continue
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1] = (ranges[-1][0], point)
        else:
            ranges.append((point, point))
    return _char_class(ranges)


_NEWER_LETTERS = """
    37f 528-52f 560 588 5ef 860-86a 870-887 889-88e 8a1 8ad-8c9 978 980 9fc af9 c34 c5a c5d c80 cdd
    d04 d54-d56 d5f e86 e89 e8c e8e-e93 e98 ea0 ea8-ea9 eac 13f5 13f8-13fd 16f1-16f8 170d 171f 1878
    191d-191e 19b0-19c0 19c8-19c9 1b4c 1c80-1c88 1c90-1cba 1cbd-1cbf 1cf2-1cf3 1cfa 2c2f 2c5f
    312e-312f 31bb-31bf 4db6-4dbf 9fcd-9fff a698-a69d a78f a794-a79f a7ab-a7ca a7d0-a7d1 a7d3
    a7d5-a7d9 a7f2-a7f7 a8fd-a8fe a9e0-a9e4 a9e6-a9ef a9fa-a9fe aa7e-aa7f ab30-ab5a ab5c-ab69
    ab70-abbf"""
_NEWER_DIGITS = "de6-def a9f0-a9f9"

# Marks and signs that may stand in a word beside letters.
_LETTER_LIKE = """
    ad 2c2-2c5 2d2-2df 2e5-2eb 2ed 2ef-36f 375 378-379 384-385 3f6 483-487 55a-55f 591-5bd 5bf
    5c1-5c2 5c4-5c5 5c7 615-61a 64b-65e 670 6d6-6e4 6e7-6ed 6fd-6fe 70f 711 730-74c 7a6-7b0 7eb-7f3
    900-903 93c 93e-94e 951-955 962-963 981-983 9bc 9be-9c4 9c7-9c8 9cb-9cd 9d7 9e2-9e3 a01-a03 a3c
    a3e-a4f a81-a83 abc abe-acf b82 bbe-bc2 bc6-bc8 bca-bcd c01-c03 c3e-c56 d3e-d44 d46-d48 e31
    e34-e3a e47-e4e eb1 eb4-ebc ec8-ecd"""

# Each is a word by itself; what is in none of these lists is dropped.
_SINGLE = """
    21 22 24-2c 2e-2f 3a-3f 40 5b-5e 60 7b-7e a1-a2 a3-a9 ac ae-b4 b6-b9 bf d7 f7 37e 387 589 5be
    5c0 5c3 5c6 5f3-5f4 600-603 606-60c 614 61b 61e-61f 66a 66d 6d4 700-70d 7f6-7f8 964-965 e3f e4f
    1fbd 2016-2017 201a 201e-2023 2026 2030-2038 203b 203e-2042 2044 2070 2074-207e 2080-208e 20a0 20a4
    20ac 2100-2101 2103-2106 2108-2109 2114 2116-2118 211e-2123 2125 2127 2129 212e 213a-213b
    2140-2144 214a-214d 214f 2153-215e 2190-2bff 3001-3002 3012 30fb ff01-ff0f ff1a-ff20 ff3b-ff40
    ff5b-ff65 ffe0-ffe1 ffe5-ffe6 80 bc-be"""

# ------------------------------------------------------------------------------------ lexicon

# They keep their period.
_ABBREVIATIONS = """
    al ala apr ariz assn aug bancorp bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq
    est etc ext feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon
    mont neb nev nov oct okla penn plc rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues
    univ va vt wed wis wisc wyo ed\\.d ph\\.d"""
_CAPITALISED = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"  # only with a capital first letter
_TITLES = """
    adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col comdr cpl dept det dr drs
    elec ens ft gen gov govs hon insp invt jos lieut lt maj messrs mlle mme mr mrs ms msgr mt natl
    pfc ph pres prof profs pvt rep reps rev sen sens sfc sgt spc st ste supt supts treas vs wm"""
_BEFORE_NUMBERS = "art ca fig figs no nos op pp prop"  # only with a number on their right
# After a letter and a period these words start a sentence: the period is not the letter's.
_SENTENCE_STARTS = """
    A About According Additionally After An As At But Earlier He Her Here However If In It Last
    Many More Mr\\. Ms\\. Now Once One Other Our She Since So Some Such That The Their Then There
    These They This We When While What Yet You"""
_EXTENSIONS = """
    bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl
    png ppt ps py sql tar txt wav x xml zip"""


def _any_of(words: str) -> str:
    return f"(?:{'|'.join(sorted(words.split(), key=len, reverse=True))})"


def _by_initial(words: str) -> Iterator[tuple[str, str]]:
    """('[aA]', 'apr|al') and so on: a word is compared with those of its first letter only."""
    for initial, group in itertools.groupby(sorted(words.split()), key=lambda word: word[0]):
        yield f"[{initial}{initial.upper()}]", "|".join(sorted(group, key=len, reverse=True))


@functools.cache
def _rules() -> tuple[_Rule, ...]:
    """In order of precedence among patterns that match equally far."""
    letters, digits = _letters(), _digits()
    like = _char_class(_ranges(_LETTER_LIKE))
    single = _char_class(_ranges(_SINGLE))

    digit = f"[{digits}]"
    entity = "(?i:&[aeiou](?:acute|grave|uml);)"
    letter = f"(?:[{letters}{like}]|{entity})"

    def run(more: str = "") -> str:
        """Letters, digits and these; never given back, so that no place is tried twice."""
        characters = f"[{letters}{like}{digits}{more}]*+"
        return f"{characters}(?:{entity}{characters})*+"

    space = f"[{_SPACE}\n]"
    apostrophe = "(?:['\x92\u2019]|(?i:&apos;))"
    apostrophe_or_quote = "(?:['\x92\u2019`\x91\u2018\u201b]|(?i:&apos;))"
    inner_stop = "[,;:\u3001]"  # a period before one of these belongs to an abbreviation

    word = f"{letter}{run()}(?:[.!?]{letter}{run()})*"
    clitic = f"{apostrophe}(?:[msdMSD]|(?i:re|ve|ll))"
    not_clitic = f"(?i:n){apostrophe_or_quote}(?i:t)"
    some = f"(?:[{letters}{like}{digits}]|{entity}){run()}"
    number = f"(?:{digit}*(?:[.:,\xad\u066b\u066c]{digit}+)+|{digit}+)"
    union = "(?i:(?:Canada|Sino|Korean|EU|Japan|non)-U\\.S|U\\.S\\.-(?:U\\.K|U\\.S\\.S\\.R))"
    file_name = f"{some}(?:\\.{some})*"
    address = '[^ \\t\\n\\f\\r"<>|.!?(){},-]'  # the last character of an address
    path = f'(?:/[^ \\t\\n\\f\\r"<>|()]+{address})?'
    host = "[^ \\t\\n\\f\\r\"`'<>|.!?(){},-_$]+"  # `,-_` is a range there, capitals included
    www_host = '[^ \\t\\n\\f\\r"<>|.!?(){},]+'
    domain = '[^ \\t\\n\\f\\r"<>|(){}.\xa0]+'
    attribute = (
        "[A-Za-z][A-Za-z0-9_:.-]*"
        "(?:[ ]*=[ ]*(?:'[^']*'|\"[^\"]*\"|[A-Za-z][A-Za-z0-9_:.-]*[A-Za-z0-9]))?"
    )
    slashed = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
    elisions = "|".join(
        [f"{apostrophe}n{apostrophe}?", f"(?:dunkin|somethin|ol){apostrophe}", "cont'd\\."]
        + [f"{apostrophe}(?:em|till?|cause)", f"{apostrophe}[2-9]0s"]
        + [f"c{apostrophe}(?:mon|est)", f"cap{apostrophe}n", f"nor{apostrophe}easter"]
        + [f"o{apostrophe}(?:clock|er)", f"n?e{apostrophe}er", f"s{apostrophe}mores"]
        + [f"ev{apostrophe}ry", f"li{apostrophe}l", f"nat{apostrophe}l"]
    )

    rules: list[_Rule] = []

    def rule(first: str, pattern: str, action=_keep, reach=None, after=None) -> None:
        optional = (text and re.compile(text) for text in (reach, after))
        reach, after = optional
        rules.append(_Rule(re.compile(first), after, re.compile(pattern), action, reach))

    some_letter = f"[{letters}{like}&]"
    some_letter_or_digit = f"[{letters}{like}{digits}&]"
    mark = "['\x92\u2019&]"
    mark_or_quote = "['\x92\u2019`\x91\u2018\u201b&]"

    # -- assimilations: the first half is a word, the second is read on its own
    rule("[cC]", "(?i)(can)not")
    rule("[gGlLwW]", "(?i)(gon|wan)na|(got)ta|(lem|gim)me")
    rule("'", "(?i)('t)(?:is|was)")
    # -- tags, entities
    tag = "<[!?][A-Za-z-][^>]*"
    rule("<", f"{tag}>", _spaced, reach=tag)
    rule("<", f"<[A-Za-z][A-Za-z0-9_:.-]*(?:[ ]+{attribute})*[ ]*/?[ ]*>", _spaced)
    rule("<", "</[A-Za-z][A-Za-z0-9_:.-]*[ ]*>", _spaced)
    rule("[&\x96\x97\u2013-\u2015]", "(?i:&(?:md|mdash|ndash);)|[\x96\x97\u2013-\u2015]", _drop)
    rule("&", "(?i)&(?:amp|lt|gt|nbsp);", _entity)
    rule("&", "&quot;", _drop)
    rule("&", "(?i)&quot;")
    rule("&", "(?i)&(?:HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);")
    # -- words
    rule(some_letter, f"({word})(?:{clitic})?", _word)
    rule(some_letter, f"([A-Za-z\xad]*[A-MO-Za-mo-z]\xad*){not_clitic}", _word, after=mark_or_quote)
    rule(f"[{letters}'\x92\u2019&]", f"(?i:{elisions})|[lLdDjJ]{apostrophe}", after=mark)
    rule("[A-HJ-XZn]", f"[A-HJ-XZn]{apostrophe_or_quote}[{letters}]{{2,}}", after=mark_or_quote)
    rule(
        f"[{letters}]",
        f"[{letters}]+[aeiouyAEIOUY]{apostrophe_or_quote}[aeiouA-Z][{letters}]*",
        after=mark_or_quote,
    )
    rule("[oO]", f"[oO]{apostrophe_or_quote}[oO]", after=mark_or_quote)
    rule("[yY]", f"([yY]{apostrophe})[{letters}]", after=mark)
    # -- addresses
    rule("[hH]", f'(?i:https?)://[^ \\t\\n\\f\\r"<>|(){{}}]+{address}', after=":")
    www = f"(?i:www)\\.{www_host}(?:\\.{www_host})*"
    rule("[wW]", f"(?i:www\\.)(?:{www_host}\\.)+[a-zA-Z]{{2,4}}{path}", reach=www, after="\\.")
    hosts = f"{host}(?:\\.{host})*"
    rule(
        host,
        f"(?:{host}\\.)+(?i:com|net|org|edu){path}",
        reach=hosts,
        after=f"\\.|{host}",
    )
    local = '[a-zA-Z0-9][^ \\t\\n\\f\\r"<>|()\xa0{}]*'
    mail = f"(?:<|(?i:&lt;))?{local}"
    rule(
        "[a-zA-Z0-9<&]",
        f"{mail}@(?:{domain}\\.)*{domain}(?:>|(?i:&gt;))?",
        reach=mail,
        after='[^ \\t\\n\\f\\r"<>|()\xa0{}]',
    )
    rule("@", "@[a-zA-Z_][a-zA-Z_0-9]*")
    rule("#", f"#{letter}+")
    # -- clitics standing alone
    rule(mark, f"({clitic})[^A-Za-z]", _quotes)
    rule("'", "(')[A-Za-z][^ \\t\n\xa0]")
    rule(mark, clitic, _quotes)
    rule("[nN]", not_clitic, _quotes, after=mark_or_quote)
    # -- numbers
    rule(digit, f"{digit}{{1,2}}[-/]{digit}{{1,2}}[-/]{digit}{{2,4}}", after="[-/]")
    rule(f"[-+.:,\xad\u066b\u066c{digits}]", f"[-+]?{number}", _word)
    rule(
        "[\u2070-\u208e\xb2\xb3\xb9]",
        "[\u207a\u207b\u208a\u208b]?(?:[\u2070\xb9\xb2\xb3\u2074-\u2079]+|[\u2080-\u2089]+)",
    )
    rule(
        digit,
        f"(?:{digit}{{1,4}}[- \xa0])?{digit}{{1,4}}(?:\\\\?/|\u2044){digit}{{1,4}}",
        _spaced,
        after="[-/\\\\\u2044 \xa0]",
    )
    rule(mark, f"({apostrophe}[0-9][0-9]){space}")
    rule(
        "[-+(0-9]",
        "(?:\\([0-9]{2,3}\\)[ \xa0]?|(?:\\+\\+?)?(?:[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])"
        "[0-9]{3,4}[- \xa0]?[0-9]{3,5}"
        "|(?:(?:\\+\\+?)?[0-9]{2,4}\\.)?[0-9]{2,4}\\.[0-9]{3,4}\\.[0-9]{3,5}",
        _bracketed,
    )
    # -- fixed forms
    rule("-", "(?i)-(?:RRB|LRB|RCB|LCB|RSB|LSB)-")
    rule("[cCpPaAsS]", "(?i)C\\.D\\.s|pro-|anti-|S(?:&|&amp;)(?:P-500|Ls)", _word)
    rule("[cCfF]", "(?i)c\\+\\+|[cf]#", after="[+#]")
    rule("[A-Za-z0-9]", f"{slashed}(?:\\\\?/{slashed}){{1,2}}", after="[-/\\\\]")
    rule("[A-Z$#]", "[A-Z]*\\$|#", after="\\$")
    # -- abbreviations
    capitalised = (f"{name[0]}(?i:{name[1:]})" for name in _SENTENCE_STARTS.split())
    starts = f"{space}++(?:{'|'.join(capitalised)}){space}"
    rule("[A-Za-z]", f"([A-Za-z])\\.{starts}", after="\\.")
    rule("[A-Za-z]", "[A-Za-z](?:\\.[A-Za-z])*\\.", after="\\.")
    rule("[cCsSkKeEjJnNuU]", f"{union}\\.|({union}){space}", after="[-.]")
    for first, names in _by_initial(_ABBREVIATIONS):
        rule(first, f"((?i:{names})\\.)(?s:..)", after="\\.")
    for name in _CAPITALISED.split():
        rule(name[0], f"({name[0]}(?i:{name[1:]})\\.)(?s:..)", after="\\.")
    rule("[pP]", "((?i:pp?t)[ey](?i:s?)\\.)(?s:..)", after="\\.")
    for first, names in _by_initial(_TITLES):
        rule(first, f"(?i:{names})\\.", after="\\.")
    rule("[mM]", "(?i:m)[ft](?i:g)\\.", after="\\.")
    for first, names in _by_initial(_BEFORE_NUMBERS):
        rule(first, f"((?i:{names})\\.){space}?{digit}", after="\\.")
    rule(some_letter, f"({word}\\.){inner_stop}", _word, after="[.!?&]")
    # -- faces
    rule("[<>:;=]", "([<>]?[:;=][-o*']?[()DPdpO\\\\{@|\\[\\]])[^A-Za-z0-9]", _bracketed)
    rule(
        "[-^x=~<>'(]",
        "[\\^x=~<>]\\.\\[\\^x=~<>\\]|[-^x=~<>']_[-^x=~<>']|\\([-^x=~<>'][-_.]?[-^x=~<>']\\)",
        _bracketed,
    )
    # -- compounds
    plain = "[A-Za-z0-9\xad]"
    compound = f"[A-Za-z0-9][A-Za-z0-9.,\xad]*+(?:-(?:[A-Za-z](?:\\.[A-Za-z])+\\.|{plain}++))+"
    rule(
        "[A-Za-z0-9]",
        f"({compound}\\.){inner_stop}|({compound})",
        _word,
        reach="[A-Za-z0-9.,\xad]+",
        after="[-.,]",
    )
    elision = f"[dDoOlL]{apostrophe_or_quote}[{letters}{digits}]"
    core = f"[{letters}{digits}]++"
    core = f"(?:{elision})?{core}"
    thing = f"{core}(?:[-_\u058a\u2010\u2011]{core})*"
    thing = f"({thing}\\.){inner_stop}|({thing})"
    rule(f"[{letters}]", thing, _word, after=f"{mark_or_quote}|[-._\u058a\u2010\u2011]")
    rule(digit, thing, _word)
    ampersands = "[A-Z]+(?:(?:(?i:&amp;)|[+&])[A-Z]+)+"
    rule("[A-Z]", f"({ampersands}\\.){inner_stop}|({ampersands})", _word, after="[+&]")
    rule(
        some_letter_or_digit,
        f"({file_name}\\.(?i:{_any_of(_EXTENSIONS)}))(?:{space}|[.?!,])",
        reach=file_name,
        after="[.&]",
    )
    rule(f"[{_SPACE}]", f"[{_SPACE}]+", _drop)
    # -- runs of signs, and what stands alone
    rule("-", "-+", _dashes)
    rule("\\.", "\\.{3,5}|(?:\\.[ \xa0]){2,4}\\.", _ellipsis)
    rule("[@#_*\\\\]", "@+|#+|_+|\\*+|(?:\\\\\\*){1,3}")
    rule("[?!]", "[?!]+")
    rule("[<>']", "<<|>>|''")
    quote = "[`\u2018-\u201f\x91-\x94\u2039\u203a\xab\xbb]"
    rule(f"['&\x92\u2019]|{quote}", f"{quote}{{1,2}}|{apostrophe}", _quotes)
    rule(f"[{single}]", f"[{single}]", _symbol)
    return tuple(rules)


# --------------------------------------------------------------------------------- answers


def vqa_answer(answer: str) -> str:
    """An answer as the official VQA evaluation compares it (Antol et al. 2015, section 4; vqaEval.py).

        "The red T-shirt." -> red t shirt        "two, or 3" -> 2 or 3        "cant" -> can't

    Its rules, one after the other, oddities with them: a mark goes where the answer has it beside a space anywhere, or has
    a comma between digits anywhere, and is a space otherwise; a period goes unless a digit follows; then lower case,
    numbers up to ten as digits ("none" is 0), no articles, apostrophes put into contractions.

    Not to be done twice: of more than 32 periods the script takes out 32 at a time.
    """
    return _digits_and_articles(_without_marks(answer))


def vqa_strip(answer: str) -> str:
    """What is done to an answer in any case: no line breaks, no tabs, no space around it."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


_VQA_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_MAX_PERIODS = 32  # the script gives a flag where the count of replacements is meant
_COMMA = re.compile(r"\d,\d")
_ARTICLES = ("a", "an", "the")
_NUMBERS = {
    word: str(number)
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
} | {"none": "0"}
_CONTRACTED = (  # written without their apostrophe, they get it back
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't "
    "it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've shouldn't "
    "somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's "
    "they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's "
    "where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've"
)
_TWICE_CONTRACTED = (  # written without one of their two, they get it back
    "couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've something'd've "
    "there'd've they'd've we'd've who'd've wouldn't've you'd've y'all'll"
)


def _contractions() -> dict[str, str]:
    table = {word.replace("'", ""): word for word in _CONTRACTED.split()}
    for word in _TWICE_CONTRACTED.split():
        first, second = (place for place, letter in enumerate(word) if letter == "'")
        table[word[:first] + word[first + 1 :]] = table[word[:second] + word[second + 1 :]] = word
    for less in ("yall'd've", "y'alld've", "y'all'dve"):
        table[less] = "y'all'd've"
    for less in ("ow's'at", "'ows'at", "'ow'sat"):
        table[less] = "'ow's'at"
    return {**table, "somebody'd": "somebodyd"}  # sic


_CONTRACTIONS = _contractions()


def _without_marks(answer: str) -> str:
    text, thousands = answer, _COMMA.search(answer) is not None
    for mark in _VQA_MARKS:
        beside_space = f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if beside_space or thousands else " ")
    return _PERIOD.sub("", text, count=_MAX_PERIODS)


def _digits_and_articles(answer: str) -> str:
    words = (_NUMBERS.get(word, word) for word in answer.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)
