"""Writes the training text: the King James Bible from Debian's package bible-kjv.

The package's program decodes the compressed text; chapter and verse numbers are removed, each verse
is one line, and chapters are separated by an empty line.

    apt-get install bible-kjv
    python examples/tinyllama/make_corpus.py corpus.txt
"""

import argparse
import pathlib
import re
import subprocess
import sys

VERSE = re.compile(r"^(?P<chapter>[0-9]?[A-Za-z]+[0-9]+):[0-9]+ (?P<text>.+)$")


def chapters(lines):
    """Yields the verses of one chapter after the other."""
    label, verses = None, []
    for line in lines:
        match = VERSE.match(line)
        if match is None:
            raise ValueError(f"not a verse: {line!r}")
        if match["chapter"] != label and verses:
            yield verses
            verses = []
        label = match["chapter"]
        verses.append(match["text"].strip())
    yield verses


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path)
    output = parser.parse_args().output
    try:
        text = subprocess.run(
            ["bible", "-f", "gen1:1-rev22:21"], check=True, capture_output=True, encoding="ascii"
        ).stdout
    except FileNotFoundError:
        sys.exit("the program `bible` is missing: apt-get install bible-kjv")
    documents = ["\n".join(verses) for verses in chapters(text.splitlines())]
    output.write_text("\n\n".join(documents) + "\n", encoding="ascii")
    print(f"{output}: {len(documents)} chapters, {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
