// The files that nvcc has made, as they are.
#define PTX(name)                                                                                                      \
  asm(".section .rodata\n.global amrtPtx" #name "\n.hidden amrtPtx" #name "\namrtPtx" #name ":\n.incbin \"" AMC_PTX_DIR    \
      "/" #name ".ptx\"\n.byte 0\n.text\n");
#include "Ptx.inc"
#undef PTX
