#!/usr/bin/env python3
"""corpus.py OUT: real text for the quickstart, from the Debian package perl-doc: Perl's manual, English prose and code
by Larry Wall and others, under the Artistic License or the GPL (/usr/share/doc/perl-doc/copyright). Documents are
separated by a zero byte. Prints the size and the unigram entropy of the bytes in nats: the best loss possible for a
model that knows only how frequent each byte is.
"""
import collections
import glob
import math
import os
import sys

SKIPPED = {"perltoc.pod", "perluniprops.pod"}  # a table of contents and a table of characters

documents = []
# 5.36 is a link to 5.36.0: each page once.
for path in sorted({os.path.realpath(page) for page in glob.glob("/usr/share/perl/5.*/pod/*.pod")}):
    if os.path.basename(path) not in SKIPPED:
        with open(path, "rb") as file:
            documents.append(file.read().replace(b"\0", b""))
if len(documents) < 100:  # perl itself brings a few
    sys.exit("corpus.py: error: the manual is not in /usr/share/perl/5.*/pod; install the package perl-doc")
text = b"\0".join(documents)
with open(sys.argv[1] + ".partial", "wb") as file:
    file.write(text)
os.rename(sys.argv[1] + ".partial", sys.argv[1])
counts = collections.Counter(text)
entropy = -sum(n / len(text) * math.log(n / len(text)) for n in counts.values())
print(f"{len(documents)} documents, {len(text)} bytes, unigram entropy {entropy:.4f} nats")
