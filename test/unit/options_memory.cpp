// Byte counts as people write them, and how much memory --ac=auto plans for.
#include "compiler/driver/DeviceMemory.h"
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

using namespace amc;
namespace fs = std::filesystem;

namespace {

TEST(Bytes, AreReadWithUnits) {
  EXPECT_EQ(parseBytes("4096"), 4096u);
  EXPECT_EQ(parseBytes("0"), 0u);
  EXPECT_EQ(parseBytes("1B"), 1u);
  EXPECT_EQ(parseBytes("1.5KiB"), 1536u);
  EXPECT_EQ(parseBytes("2 MiB"), 2097152u);
  EXPECT_EQ(parseBytes("80GiB"), uint64_t(80) << 30);
  EXPECT_EQ(parseBytes("80GB"), 80'000'000'000u);
  EXPECT_EQ(parseBytes("1KB"), 1000u);
  EXPECT_EQ(parseBytes("7.3TB"), 7'300'000'000'000u);
  for (const char *bad : {"", "-5", "-0", "+5", "GiB", "7XB", "7gib", "1e3", "inf", "nan", "1.2.3",
                          ".5", "5 5", "0x10", "9e18", "10000000TiB", "5GiBs"})
    EXPECT_EQ(parseBytes(bad), std::nullopt) << bad;
}

TEST(DeviceMemory, IsTheGivenCapacityLessTheReserve) {
  CompileOptions options;
  options.deviceMemory = "1GiB";
  DeviceMemory memory = deviceMemory(options);
  EXPECT_EQ(memory.forArena(), (uint64_t(1024) - 288) << 20);
  EXPECT_EQ(memory.origin, "--device-memory");
  options.deviceMemory = "1MiB";
  EXPECT_EQ(deviceMemory(options).forArena(), 0u);
  options.deviceMemory.clear();
  EXPECT_GT(deviceMemory(options).capacity, 0u);
}

TEST(DeviceMemory, TakesTheLowestLimitOfTheControlGroupAndItsAncestors) {
  fs::path root = fs::path(testing::TempDir()) / "cgroups";
  fs::remove_all(root);
  fs::create_directories(root / "a/b");
  fs::create_directories(root / "memory/c");
  auto write = [](const fs::path &path, const char *text) { std::ofstream(path) << text; };
  auto limit = [&](const char *process) {
    write(root / "process", process);
    return controlGroupLimit((root / "process").string(), root.string());
  };
  EXPECT_EQ(limit("0::/a/b\n"), std::nullopt); // no files
  write(root / "a/b/memory.max", "max\n");
  EXPECT_EQ(limit("0::/a/b\n"), std::nullopt);
  write(root / "a/memory.max", "5000\n");
  EXPECT_EQ(limit("0::/a/b\n"), 5000u);
  write(root / "a/b/memory.max", "4000\n");
  EXPECT_EQ(limit("0::/a/b\n"), 4000u);
  EXPECT_EQ(limit("0::/\n"), std::nullopt);
  // v1, whose "no limit" is a large number.
  write(root / "memory/memory.limit_in_bytes", "9223372036854771712\n");
  write(root / "memory/c/memory.limit_in_bytes", "3000\n");
  EXPECT_EQ(limit("3:cpu,cpuacct:/\n2:memory:/c\n"), 3000u);
  EXPECT_EQ(limit("2:memory:/\n"), std::nullopt);
  EXPECT_EQ(limit("nonsense\n"), std::nullopt);
  EXPECT_EQ(controlGroupLimit((root / "absent").string(), root.string()), std::nullopt);
}

} // namespace
