"""tokens.py TEXT U16 U32: writes a text's bytes as tokens of two and of four bytes."""
import struct
import sys

text = open(sys.argv[1], "rb").read()
for path, kind in ((sys.argv[2], "H"), (sys.argv[3], "I")):
    open(path, "wb").write(struct.pack(f"<{len(text)}{kind}", *text))
