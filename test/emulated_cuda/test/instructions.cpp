// What single instructions compute: snippets of PTX against values worked out by hand or by the host's arithmetic.
#include "test/emulated_cuda/test/Harness.h"
#include <bit>
#include <cstring>
#include <limits>

namespace {

uint64_t bits(float value) { return std::bit_cast<uint32_t>(value); }
uint64_t bits(double value) { return std::bit_cast<uint64_t>(value); }

constexpr uint64_t nan32 = 0x7fffffff, inf32 = 0x7f800000, tiny32 = 0x00000001; // the smallest denormal

struct Case {
  const char *text; // %d1 to %d3 are the operands, as %r1, %f1, %h1 and %g1 too; the result is in register 0
  char result;      // d, r, f, h, g or p
  uint64_t a, b, c, want;
};

std::string kernelOf(const Case &one) {
  std::string text = R"(.version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out) {
  .reg .pred %p<8>;
  .reg .b16 %h<16>;
  .reg .b32 %r<16>;
  .reg .f32 %f<16>;
  .reg .b64 %d<24>;
  .reg .f64 %g<8>;
  ld.param.u64 %d20, [in];
  ld.param.u64 %d21, [out];
  ld.global.v2.u64 {%d1, %d2}, [%d20];
  ld.global.u64 %d3, [%d20+16];
)";
  for (const char *n : {"1", "2", "3"})
    for (const char *line :
         {"cvt.u32.u64 %rN, %dN;", "mov.b32 %fN, %rN;", "mov.b64 %gN, %dN;", "cvt.u16.u64 %hN, %dN;"}) {
      std::string copy = line;
      for (size_t at; (at = copy.find('N')) != std::string::npos;)
        copy.replace(at, 1, n);
      text += "  " + copy + "\n";
    }
  text += std::string("  ") + one.text + "\n";
  switch (one.result) {
  case 'f':
    text += "  mov.b32 %r0, %f0;\n";
    [[fallthrough]];
  case 'r':
    text += "  cvt.u64.u32 %d0, %r0;\n";
    break;
  case 'h':
    text += "  cvt.u64.u16 %d0, %h0;\n";
    break;
  case 'g':
    text += "  mov.b64 %d0, %g0;\n";
    break;
  case 'p':
    text += "  selp.u64 %d0, 1, 0, %p0;\n";
    break;
  default:
    break;
  }
  return text + "  st.global.u64 [%d21], %d0;\n  ret;\n}\n";
}

class Instructions : public Emulated {
protected:
  void check(const std::vector<Case> &cases) {
    CUdeviceptr in = allocate(24), out = allocate(8);
    for (const Case &one : cases) {
      SCOPED_TRACE(one.text);
      CUmodule module;
      OK(cuModuleLoadData(&module, kernelOf(one).c_str()));
      uint64_t operands[3] = {one.a, one.b, one.c}, got = 0;
      OK(cuMemcpyHtoD(in, operands, sizeof operands));
      OK(run(function(module, "k"), 1, 1, in, out));
      OK(cuMemcpyDtoH(&got, out, sizeof got));
      EXPECT_EQ(got, one.want) << std::hex << got << " should be " << one.want;
      OK(cuModuleUnload(module));
    }
  }
};

TEST_F(Instructions, Integer) {
  constexpr uint64_t minus1 = 0xffffffff, low = 0x80000000;
  check({
      {"add.s32 %r0, %r1, %r2;", 'r', minus1, 2, 0, 1},
      {"add.sat.s32 %r0, %r1, %r2;", 'r', 0x7fffffff, 1, 0, 0x7fffffff},
      {"sub.sat.s32 %r0, %r1, %r2;", 'r', low, 1, 0, low},
      {"add.u16 %h0, %h1, %h2;", 'h', 0xffff, 2, 0, 1},
      {"add.s64 %d0, %d1, -1;", 'd', 0, 0, 0, ~0ull},
      {"add.cc.u32 %r4, %r1, %r2; addc.u32 %r0, 0, 0;", 'r', minus1, 1, 0, 1},
      {"sub.cc.u32 %r4, %r1, %r2; subc.u32 %r0, 5, 0;", 'r', 0, 1, 0, 4},
      {"mul.lo.s32 %r0, %r1, %r2;", 'r', 0x10001, 0x10001, 0, 0x20001},
      {"mul.hi.u32 %r0, %r1, %r2;", 'r', minus1, minus1, 0, 0xfffffffe},
      {"mul.hi.s32 %r0, %r1, %r2;", 'r', minus1, minus1, 0, 0},
      {"mul.hi.u64 %d0, %d1, %d2;", 'd', ~0ull, ~0ull, 0, ~0ull - 1},
      {"mul.wide.s32 %d0, %r1, %r2;", 'd', minus1, 3, 0, ~0ull - 2},
      {"mul.wide.u16 %r0, %h1, %h2;", 'r', 0xffff, 0xffff, 0, 0xfffe0001},
      {"mul.lo.u16 %h0, %h1, %h2;", 'h', 0xffff, 0xffff, 0, 1},
      {"mad.lo.s32 %r0, %r1, %r2, %r3;", 'r', 3, 4, minus1, 11},
      {"mad.hi.u32 %r0, %r1, %r2, %r3;", 'r', low, 4, 7, 9},
      {"mad.wide.u32 %d0, %r1, %r2, %d3;", 'd', minus1, 2, 5, 0x200000003},
      {"mul24.lo.u32 %r0, %r1, %r2;", 'r', 0xff000002, 3, 0, 6},
      {"sad.s32 %r0, %r1, %r2, %r3;", 'r', 3, minus1, 10, 14},
      {"div.s32 %r0, %r1, %r2;", 'r', minus1 - 6, 2, 0, minus1 - 2},
      {"div.s32 %r0, %r1, %r2;", 'r', low, minus1, 0, low},
      {"rem.s32 %r0, %r1, %r2;", 'r', minus1 - 6, 4, 0, minus1 - 2},
      {"div.u64 %d0, %d1, %d2;", 'd', ~0ull, 10, 0, ~0ull / 10},
      {"min.s32 %r0, %r1, %r2;", 'r', minus1, 1, 0, minus1},
      {"min.u32 %r0, %r1, %r2;", 'r', minus1, 1, 0, 1},
      {"max.s64 %d0, %d1, %d2;", 'd', ~0ull, 1, 0, 1},
      {"abs.s32 %r0, %r1;", 'r', minus1 - 4, 0, 0, 5},
      {"neg.s16 %h0, %h1;", 'h', 1, 0, 0, 0xffff},
      {"dp4a.s32.s32 %r0, %r1, %r2, %r3;", 'r', 0xff02ff02, 0x01030103, 5, 15},
      {"dp4a.u32.u32 %r0, %r1, %r2, %r3;", 'r', 0xff000000, 0xff000000, 1, 65026},
  });
}

TEST_F(Instructions, Bits) {
  check({
      {"and.b32 %r0, %r1, %r2;", 'r', 0xff00, 0x0ff0, 0, 0x0f00},
      {"not.b64 %d0, %d1;", 'd', 0, 0, 0, ~0ull},
      {"xor.b16 %h0, %h1, %h2;", 'h', 0xff, 0xf, 0, 0xf0},
      {"cnot.b32 %r0, %r1;", 'r', 0, 0, 0, 1},
      {"lop3.b32 %r0, %r1, %r2, %r3, 0x96;", 'r', 0xf0f0, 0xff00, 0xaaaa, 0xf0f0 ^ 0xff00 ^ 0xaaaa},
      {"lop3.b32 %r0, %r1, %r2, %r3, 0xe8;", 'r', 0xf0f0, 0xff00, 0xaaaa, 0xfaa0},
      {"shl.b32 %r0, %r1, %r2;", 'r', 1, 31, 0, 0x80000000},
      {"shl.b32 %r0, %r1, %r2;", 'r', 1, 32, 0, 0},
      {"shr.s32 %r0, %r1, %r2;", 'r', 0x80000000, 99, 0, 0xffffffff},
      {"shr.u32 %r0, %r1, %r2;", 'r', 0x80000000, 31, 0, 1},
      {"shr.u32 %r0, %r1, %r2;", 'r', 0x80000000, 32, 0, 0},
      {"shr.u16 %h0, %h1, %r2;", 'h', 0x8000, 15, 0, 1},
      {"shf.l.wrap.b32 %r0, %r1, %r2, %r3;", 'r', 0x80000000, 1, 33, 3},
      {"shf.r.clamp.b32 %r0, %r1, %r2, %r3;", 'r', 0x80000000, 5, 40, 5},
      {"shf.r.wrap.b32 %r0, %r1, %r2, %r3;", 'r', 0x80000000, 1, 31, 3},
      {"popc.b64 %r0, %d1;", 'r', ~0ull, 0, 0, 64},
      {"clz.b32 %r0, %r1;", 'r', 0, 0, 0, 32},
      {"bfind.u32 %r0, %r1;", 'r', 0, 0, 0, 0xffffffff},
      {"bfind.s32 %r0, %r1;", 'r', 0xfffffffe, 0, 0, 0},
      {"bfind.shiftamt.u32 %r0, %r1;", 'r', 1, 0, 0, 31},
      {"brev.b32 %r0, %r1;", 'r', 1, 0, 0, 0x80000000},
      {"bfe.u32 %r0, %r1, %r2, %r3;", 'r', 0xabcd, 4, 8, 0xbc},
      {"bfe.s32 %r0, %r1, %r2, %r3;", 'r', 0xabcd, 4, 8, 0xffffffbc},
      {"bfe.s32 %r0, %r1, 28, 8;", 'r', 0xa0000000, 0, 0, 0xfffffffa},
      {"bfi.b32 %r0, %r1, %r2, 8, 4;", 'r', 0xf5, 0xffffffff, 0, 0xfffff5ff},
      {"prmt.b32 %r0, %r1, %r2, %r3;", 'r', 0x33221100, 0x77665544, 0x7410, 0x77441100},
      {"prmt.b32 %r0, %r1, %r2, %r3;", 'r', 0x00008000, 0, 0x9999, 0xffffffff},
      {"selp.b32 %r0, %r1, %r2, %p1;", 'r', 1, 1, 0, 1},
      {"slct.s32.s32 %r0, %r1, %r2, %r3;", 'r', 7, 8, 0xffffffff, 8},
      {"slct.u32.f32 %r0, %r1, %r2, %f3;", 'r', 7, 8, nan32, 8},
      {"mov.b64 {%r0, %r4}, %d1;", 'r', 0x1122334455667788, 0, 0, 0x55667788},
      {"mov.b64 %d0, {%r2, %r1};", 'd', 1, 2, 0, 0x100000002},
      {"mov.b32 {%h4, %h0}, %r1;", 'h', 0x12345678, 0, 0, 0x1234},
  });
}

TEST_F(Instructions, Float) {
  float big = std::numeric_limits<float>::max();
  check({
      {"add.f32 %f0, %f1, %f2;", 'f', bits(1.0f), bits(0x1p-24f), 0, bits(1.0f)},
      {"add.rp.f32 %f0, %f1, %f2;", 'f', bits(1.0f), bits(0x1p-30f), 0, bits(0x1.000002p0f)},
      {"add.rz.f32 %f0, %f1, %f2;", 'f', bits(1.0f), bits(-0x1p-30f), 0, bits(0x1.fffffep-1f)},
      {"sub.rm.f32 %f0, %f1, %f2;", 'f', bits(1.0f), bits(0x1p-30f), 0, bits(0x1.fffffep-1f)},
      {"add.f32 %f0, %f1, %f2;", 'f', inf32, bits(-INFINITY), 0, nan32},
      {"add.f32 %f0, %f1, %f2;", 'f', 0x7fc12345, bits(1.0f), 0, nan32},
      {"add.f32 %f0, %f1, %f2;", 'f', tiny32, tiny32, 0, 2},
      {"add.ftz.f32 %f0, %f1, %f2;", 'f', tiny32, tiny32, 0, 0},
      {"mul.ftz.f32 %f0, %f1, %f2;", 'f', 0x80000000 | tiny32, bits(big), 0, 0x80000000},
      {"mul.f32 %f0, %f1, %f2;", 'f', bits(big), bits(2.0f), 0, inf32},
      {"mul.rz.f32 %f0, %f1, %f2;", 'f', bits(big), bits(2.0f), 0, bits(big)},
      {"add.sat.f32 %f0, %f1, %f2;", 'f', bits(0.75f), bits(0.5f), 0, bits(1.0f)},
      {"add.sat.f32 %f0, %f1, %f2;", 'f', nan32, bits(0.5f), 0, 0},
      {"fma.rn.f32 %f0, %f1, %f2, %f3;", 'f', bits(0x1.000002p0f), bits(0x1.000002p0f), bits(-1.0f),
       bits(std::fma(0x1.000002p0f, 0x1.000002p0f, -1.0f))},
      {"fma.rz.f32 %f0, %f1, %f2, %f3;", 'f', bits(1.0f), bits(1.0f), bits(-0x1p-40f), bits(0x1.fffffep-1f)},
      {"mad.rn.f32 %f0, %f1, %f2, %f3;", 'f', bits(2.0f), bits(3.0f), bits(1.0f), bits(7.0f)},
      {"div.rn.f32 %f0, %f1, %f2;", 'f', bits(1.0f), bits(3.0f), 0, bits(1.0f / 3.0f)},
      {"div.rn.f32 %f0, %f1, %f2;", 'f', bits(-1.0f), 0, 0, bits(-INFINITY)},
      {"div.full.f32 %f0, %f1, %f2;", 'f', bits(10.0f), bits(4.0f), 0, bits(2.5f)},
      {"div.approx.f32 %f0, %f1, %f2;", 'f', bits(1.0f), bits(0x1p127f), 0, 0},
      {"rcp.rn.f32 %f0, %f1;", 'f', bits(3.0f), 0, 0, bits(1.0f / 3.0f)},
      {"rcp.approx.ftz.f32 %f0, %f1;", 'f', bits(-0.0f), 0, 0, bits(-INFINITY)},
      {"sqrt.rn.f32 %f0, %f1;", 'f', bits(-1.0f), 0, 0, nan32},
      {"sqrt.rn.f32 %f0, %f1;", 'f', bits(2.0f), 0, 0, bits(std::sqrt(2.0f))},
      {"rsqrt.approx.f32 %f0, %f1;", 'f', bits(4.0f), 0, 0, bits(0.5f)},
      {"ex2.approx.f32 %f0, %f1;", 'f', bits(-3.0f), 0, 0, bits(0.125f)},
      {"ex2.approx.ftz.f32 %f0, %f1;", 'f', bits(-140.0f), 0, 0, 0},
      {"lg2.approx.f32 %f0, %f1;", 'f', bits(8.0f), 0, 0, bits(3.0f)},
      {"lg2.approx.f32 %f0, %f1;", 'f', 0, 0, 0, bits(-INFINITY)},
      {"sin.approx.f32 %f0, %f1;", 'f', bits(1.0f), 0, 0, bits((float)std::sin(1.0))},
      {"cos.approx.f32 %f0, %f1;", 'f', bits(1.0f), 0, 0, bits((float)std::cos(1.0))},
      {"tanh.approx.f32 %f0, %f1;", 'f', bits(20.0f), 0, 0, bits(1.0f)},
      {"min.f32 %f0, %f1, %f2;", 'f', nan32, bits(1.0f), 0, bits(1.0f)},
      {"min.NaN.f32 %f0, %f1, %f2;", 'f', bits(1.0f), 0x7fc00001, 0, nan32},
      {"min.f32 %f0, %f1, %f2;", 'f', 0, bits(-0.0f), 0, bits(-0.0f)},
      {"max.f32 %f0, %f1, %f2;", 'f', bits(-0.0f), 0, 0, 0},
      {"max.ftz.f32 %f0, %f1, %f2;", 'f', tiny32, bits(-1.0f), 0, 0},
      {"abs.f32 %f0, %f1;", 'f', bits(-2.0f), 0, 0, bits(2.0f)},
      {"neg.f32 %f0, %f1;", 'f', 0, 0, 0, 0x80000000},
      {"copysign.f32 %f0, %f1, %f2;", 'f', bits(-0.0f), bits(3.0f), 0, bits(-3.0f)},
      {"testp.subnormal.f32 %p0, %f1;", 'p', tiny32, 0, 0, 1},
      {"testp.finite.f32 %p0, %f1;", 'p', inf32, 0, 0, 0},
      {"fma.rn.f64 %g0, %g1, %g2, %g3;", 'g', bits(0.1), bits(10.0), bits(-1.0), bits(std::fma(0.1, 10.0, -1.0))},
      {"div.rn.f64 %g0, %g1, %g2;", 'g', bits(1.0), bits(3.0), 0, bits(1.0 / 3.0)},
      {"add.rm.f64 %g0, %g1, %g2;", 'g', bits(1.0), bits(-0x1p-80), 0, bits(0x1.fffffffffffffp-1)},
      {"sqrt.rn.f64 %g0, %g1;", 'g', bits(2.0), 0, 0, bits(std::sqrt(2.0))},
      {"max.f64 %g0, %g1, %g2;", 'g', bits((double)NAN), bits(2.0), 0, bits(2.0)},
  });
}

TEST_F(Instructions, Half) {
  // f16: 1 is 3c00, 2 4000, the largest 7bff, the smallest 0001. bf16: 1 is 3f80, 3 4040.
  check({
      {"add.f16 %h0, %h1, %h2;", 'h', 0x3c00, 0x3c00, 0, 0x4000},
      {"add.f16 %h0, %h1, %h2;", 'h', 0x7bff, 0x7bff, 0, 0x7c00},
      {"mul.f16 %h0, %h1, %h2;", 'h', 0x0001, 0x3800, 0, 0x0000}, // half of the smallest: ties to even
      {"sub.ftz.f16 %h0, %h1, %h2;", 'h', 0x0001, 0x0000, 0, 0x0000},
      {"fma.rn.f16 %h0, %h1, %h2, %h3;", 'h', 0x3c01, 0x3c01, 0xbc00, 0x1800},  // 2^-9 (1 + 2^-11): a tie
      {"fma.rn.bf16 %h0, %h1, %h2, %h3;", 'h', 0x3f81, 0x3f81, 0xbf80, 0x3c80}, // a tie as well
      {"fma.rn.relu.bf16 %h0, %h1, %h2, %h3;", 'h', 0x3f80, 0xbf80, 0, 0},
      {"fma.rn.bf16x2 %r0, %r1, %r2, %r3;", 'r', 0x3f804040, 0x3f803f80, 0x3f800000, 0x40004040},
      {"add.bf16x2 %r0, %r1, %r2;", 'r', 0x3f803f80, 0x3f803f80, 0, 0x40004000},
      {"max.NaN.bf16x2 %r0, %r1, %r2;", 'r', 0x7fc03f80, 0x3f804000, 0, 0x7fff4000},
      {"min.f16x2 %r0, %r1, %r2;", 'r', 0x7e003c00, 0x3c004000, 0, 0x3c003c00},
      {"neg.bf16x2 %r0, %r1;", 'r', 0x3f80bf80, 0, 0, 0xbf803f80},
      {"abs.f16 %h0, %h1;", 'h', 0xbc00, 0, 0, 0x3c00},
      {"ex2.approx.f16 %h0, %h1;", 'h', 0x4000, 0, 0, 0x4400},
      {"tanh.approx.bf16 %h0, %h1;", 'h', 0x4240, 0, 0, 0x3f80},
      {"setp.lt.bf16 %p0, %h1, %h2;", 'p', 0x3f80, 0x4000, 0, 1},
  });
}

TEST_F(Instructions, Compare) {
  check({
      {"setp.lt.s32 %p0, %r1, %r2;", 'p', 0xffffffff, 1, 0, 1},
      {"setp.lo.u32 %p0, %r1, %r2;", 'p', 0xffffffff, 1, 0, 0},
      {"setp.ne.f32 %p0, %f1, %f2;", 'p', nan32, bits(1.0f), 0, 0},
      {"setp.neu.f32 %p0, %f1, %f2;", 'p', nan32, bits(1.0f), 0, 1},
      {"setp.ltu.f32 %p0, %f1, %f2;", 'p', nan32, bits(1.0f), 0, 1},
      {"setp.equ.f32 %p0, %f1, %f2;", 'p', bits(1.0f), bits(2.0f), 0, 0},
      {"setp.num.f32 %p0, %f1, %f2;", 'p', nan32, bits(1.0f), 0, 0},
      {"setp.nan.f64 %p0, %g1, %g2;", 'p', bits((double)NAN), bits(1.0), 0, 1},
      {"setp.eq.ftz.f32 %p0, %f1, %f2;", 'p', tiny32, 0, 0, 1},
      {"setp.eq.s32 %p1, 1, 1; setp.gt.and.s32 %p0, %r1, %r2, %p1;", 'p', 2, 1, 0, 1},
      {"setp.eq.s32 %p1, 1, 1; setp.gt.xor.s32 %p0|%p2, %r1, %r2, !%p1; mov.pred %p0, %p2;", 'p', 2, 1, 0, 0},
      {"set.lt.u32.s32 %r0, %r1, %r2;", 'r', 1, 2, 0, 0xffffffff},
      {"set.ge.f32.f32 %f0, %f1, %f2;", 'f', bits(2.0f), bits(1.0f), 0, bits(1.0f)},
      {"setp.eq.s32 %p1, 1, 1; setp.eq.s32 %p2, 1, 2; and.pred %p0, %p1, %p2;", 'p', 0, 0, 0, 0},
      {"setp.eq.s32 %p1, 1, 2; not.pred %p0, %p1;", 'p', 0, 0, 0, 1},
  });
}

TEST_F(Instructions, Convert) {
  check({
      {"cvt.rni.s32.f32 %r0, %f1;", 'r', bits(2.5f), 0, 0, 2},
      {"cvt.rzi.s32.f32 %r0, %f1;", 'r', bits(-2.9f), 0, 0, 0xfffffffe},
      {"cvt.rmi.s32.f32 %r0, %f1;", 'r', bits(-2.1f), 0, 0, 0xfffffffd},
      {"cvt.rpi.u32.f32 %r0, %f1;", 'r', bits(2.1f), 0, 0, 3},
      {"cvt.rzi.s32.f32 %r0, %f1;", 'r', bits(1e20f), 0, 0, 0x7fffffff},
      {"cvt.rzi.u32.f32 %r0, %f1;", 'r', bits(-1.0f), 0, 0, 0},
      {"cvt.rzi.u64.f32 %d0, %f1;", 'd', inf32, 0, 0, ~0ull},
      {"cvt.rzi.s64.f64 %d0, %g1;", 'd', bits(-1e300), 0, 0, 1ull << 63},
      {"cvt.rzi.s32.f32 %r0, %f1;", 'r', nan32, 0, 0, 0},
      {"cvt.rn.f32.s32 %f0, %r1;", 'f', 0xffffffff, 0, 0, bits(-1.0f)},
      {"cvt.rn.f32.u32 %f0, %r1;", 'f', 0xffffffff, 0, 0, bits(4294967296.0f)},
      {"cvt.rz.f32.u32 %f0, %r1;", 'f', 0xffffffff, 0, 0, bits(0x1.fffffep31f)},
      {"cvt.rn.f64.u64 %g0, %d1;", 'g', ~0ull, 0, 0, bits(0x1p64)},
      {"cvt.rn.f32.f64 %f0, %g1;", 'f', bits(0.1), 0, 0, bits(0.1f)},
      {"cvt.rp.f32.f64 %f0, %g1;", 'f', bits(1.0 + 0x1p-50), 0, 0, bits(0x1.000002p0f)},
      {"cvt.f64.f32 %g0, %f1;", 'g', bits(0.1f), 0, 0, bits((double)0.1f)},
      {"cvt.rni.f32.f32 %f0, %f1;", 'f', bits(-0.5f), 0, 0, bits(-0.0f)},
      {"cvt.sat.f32.f32 %f0, %f1;", 'f', bits(7.0f), 0, 0, bits(1.0f)},
      {"cvt.ftz.f32.f32 %f0, %f1;", 'f', tiny32, 0, 0, 0},
      {"cvt.rn.bf16.f32 %h0, %f1;", 'h', 0x3f808000, 0, 0, 0x3f80}, // a tie, to even
      {"cvt.rn.bf16.f32 %h0, %f1;", 'h', 0x3f818000, 0, 0, 0x3f82},
      {"cvt.rn.bf16.f32 %h0, %f1;", 'h', 0x7f7fffff, 0, 0, 0x7f80},
      {"cvt.rn.bf16.f32 %h0, %f1;", 'h', nan32, 0, 0, 0x7fff},
      {"cvt.rz.bf16.f32 %h0, %f1;", 'h', 0x3f81ffff, 0, 0, 0x3f81},
      {"cvt.rn.relu.bf16.f32 %h0, %f1;", 'h', bits(-1.0f), 0, 0, 0},
      {"cvt.rn.bf16x2.f32 %r0, %f1, %f2;", 'r', bits(1.0f), bits(3.0f), 0, 0x3f804040},
      {"cvt.rn.f16x2.f32 %r0, %f1, %f2;", 'r', bits(1.0f), bits(2.0f), 0, 0x3c004000},
      {"cvt.f32.bf16 %f0, %h1;", 'f', 0x4040, 0, 0, bits(3.0f)},
      {"cvt.f32.f16 %f0, %h1;", 'f', 0x0001, 0, 0, bits(0x1p-24f)},
      {"cvt.rn.f16.f32 %h0, %f1;", 'h', bits(65520.0f), 0, 0, 0x7c00},
      {"cvt.rn.f16.f64 %h0, %g1;", 'h', bits(1.0 + 0x1p-11 + 0x1p-40), 0, 0, 0x3c01}, // no tie, seen from f64
      {"cvt.rzi.s32.f16 %r0, %h1;", 'r', 0xc200, 0, 0, 0xfffffffd},
      {"cvt.rn.f16.s32 %h0, %r1;", 'h', 3, 0, 0, 0x4200},
      {"cvt.rna.tf32.f32 %r0, %f1;", 'r', 0x3f801000, 0, 0, 0x3f802000},
      {"cvt.u16.u32 %h0, %r1;", 'h', 0x12345, 0, 0, 0x2345},
      {"cvt.s32.s8 %r0, %r1;", 'r', 0x80, 0, 0, 0xffffff80},
      {"cvt.s64.s32 %d0, %r1;", 'd', 0x80000000, 0, 0, 0xffffffff80000000},
      {"cvt.u64.u32 %d0, %r1;", 'd', 0x80000000, 0, 0, 0x80000000},
      {"cvt.sat.u8.s32 %r0, %r1;", 'r', 0x1ff, 0, 0, 0xff},
      {"cvt.sat.s8.s32 %r0, %r1;", 'r', 0xffff0000, 0, 0, 0xffffff80},
      {"cvt.sat.u32.s64 %r0, %d1;", 'r', ~0ull, 0, 0, 0},
  });
}

TEST_F(Instructions, ControlAndCalls) {
  const char *functions = R"(.version 8.0
.target sm_90
.address_size 64
.func (.param .b32 out) square(.param .b32 x) {
  .reg .b32 %r<4>;
  ld.param.b32 %r1, [x];
  mul.lo.s32 %r2, %r1, %r1;
  st.param.b32 [out], %r2;
  ret;
}
.visible .entry k(.param .u64 out) {
  .reg .pred %p<3>;
  .reg .b32 %r<8>;
  .reg .b64 %d<4>;
  ld.param.u64 %d1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, 0;
  mov.u32 %r3, 0;
LOOP:
  setp.ge.u32 %p1, %r3, %r1;
  @%p1 bra DONE;
  {
    .reg .b32 %t;
    .param .b32 argument;
    .param .b32 result;
    st.param.b32 [argument], %r3;
    call.uni (result), square, (argument);
    ld.param.b32 %t, [result];
    add.s32 %r2, %r2, %t;
  }
  add.s32 %r3, %r3, 1;
  bra LOOP;
DONE:
  and.b32 %r4, %r1, 3;
TARGETS: .branchtargets A, B, A, C;
  brx.idx %r4, TARGETS;
A:
  add.s32 %r2, %r2, 1000;
  bra END;
B:
  add.s32 %r2, %r2, 2000;
  bra END;
C:
  @!%p1 trap;
END:
  mad.wide.u32 %d2, %r1, 4, %d1;
  st.global.u32 [%d2], %r2;
}
)";
  CUdeviceptr out = allocate(64 * 4);
  OK(run(function(load(functions), "k"), 1, 64, out));
  std::vector<int> got = download<int>(out, 64), want;
  for (int t = 0; t < 64; ++t) {
    int sum = 0;
    for (int i = 0; i < t; ++i)
      sum += i * i;
    want.push_back(sum + (t % 4 == 1 ? 2000 : t % 4 == 3 ? 0 : 1000));
  }
  EXPECT_EQ(got, want);
}

TEST_F(Instructions, WhatIsNotModelledIsNamed) {
  std::string text = kernelOf({"wgmma.fence.sync.aligned;", 'r', 0, 0, 0, 0});
  CUmodule module = nullptr;
  char log[512] = "";
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void *values[] = {log, reinterpret_cast<void *>(sizeof log)};
  EXPECT_EQ(cuModuleLoadDataEx(&module, text.c_str(), 2, options, values), CUDA_ERROR_INVALID_PTX);
  EXPECT_NE(std::string(log).find("wgmma.fence.sync.aligned"), std::string::npos) << log;
  EXPECT_NE(std::string(log).find("line 27"), std::string::npos) << log;
  expectFinding("module", "wgmma");
  text = kernelOf({"add.rn.ftz.sideways.f32 %f0, %f1, %f2;", 'f', 0, 0, 0, 0});
  EXPECT_EQ(cuModuleLoadData(&module, text.c_str()), CUDA_ERROR_INVALID_PTX);
  expectFinding("module", "sideways");
}

TEST(Comparator, RefusesNaN) {
  std::vector<float> nan{1, NAN}, number{1, 2};
  EXPECT_EQ(difference(number, number, 0), "");
  EXPECT_NE(difference(nan, number, 1e30), "");
  EXPECT_NE(difference(number, nan, 1e30), "");
  EXPECT_NE(difference(nan, nan, 1e30), "");
  EXPECT_NE(difference(std::vector<float>{1}, number, 1e30), "");
}

} // namespace
