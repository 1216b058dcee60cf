// The files that nvcc has made, as they are. A fatbin is a structure of 64-bit words.
#define FILE_AS(symbol, file)                                                                                          \
  asm(".section .rodata\n.balign 8\n.global " symbol "\n.hidden " symbol "\n" symbol ":\n.incbin \"" AMC_PTX_DIR "/" file    \
      "\"\n.byte 0\n.text\n");
#define PTX(name)                                                                                                      \
  FILE_AS("amrtPtx" #name, #name ".ptx")                                                                               \
  FILE_AS("amrtFatbin" #name, #name ".fatbin")
#include "Ptx.inc"
#undef PTX
