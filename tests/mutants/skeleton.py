"""Finds the rules in nft text as this project writes it: a chain's rules are the statements
between its braces, one a line, or over several lines while a brace or a list is open."""

import re

TABLE = re.compile(r'^table (\w+) sgagent \{$')
CHAIN = re.compile(r'^\tchain (\w+) \{$')


def without_comment(line):
    """The line up to a # that is in no quotes."""
    quoted = False
    for i, c in enumerate(line):
        if c == '"':
            quoted = not quoted
        elif c == '#' and not quoted:
            return line[:i].rstrip()
    return line.rstrip()


def statements(text):
    """(family, chain or None, index in the chain or None, lines) of the text, in order. What is
    no rule of a chain has neither; the lines joined are the text."""
    family = chain = None
    index, pending, depth = 0, [], 0
    for line in text.splitlines(keepends=True):
        bare = without_comment(line)
        if chain is None:
            if found := TABLE.match(bare):
                family = found[1]
            elif found := CHAIN.match(bare):
                chain, index = found[1], 0
            elif bare == '}':
                family = None
            yield family, None, None, [line]
            continue
        if not pending and (bare == '\t}' or not bare.strip() or bare.strip().startswith('type ')):
            if bare == '\t}':
                chain = None
            yield family, None, None, [line]
            continue
        pending.append(line)
        depth += bare.count('{') - bare.count('}')
        if depth == 0:
            yield family, chain, index, pending
            index, pending = index + 1, []


def words(lines):
    """A rule in one line without its comment."""
    return ' '.join(' '.join(without_comment(line) for line in lines).split())


def rules(text):
    """(family, chain, index, rule) of every rule."""
    for family, chain, index, lines in statements(text):
        if chain is not None:
            yield family, chain, index, words(lines)
