// The report as one HTML page without scripts or outside references: the promise, live memory over
// the step as a drawing, and the text of `amc inspect`.
#include "compiler/report/Report.h"
#include <algorithm>

namespace amc::report {
namespace {

std::string escape(const std::string &text) {
  std::string out;
  for (char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else
      out += c;
  }
  return out;
}

// Live bytes over the step, at most `columns` points: each the largest of its share of
// instructions.
std::string curve(const std::vector<uint64_t> &live, uint64_t arena, int columns, int height) {
  std::string points;
  size_t count = std::min<size_t>(live.size(), static_cast<size_t>(columns));
  for (size_t i = 0; i < count; ++i) {
    auto begin = live.begin() + static_cast<ptrdiff_t>(i * live.size() / count);
    auto end = live.begin() + static_cast<ptrdiff_t>((i + 1) * live.size() / count);
    uint64_t largest = *std::max_element(begin, end);
    double x = static_cast<double>(i) * columns / static_cast<double>(count);
    double y = height * (1 - static_cast<double>(largest) /
                                 static_cast<double>(std::max<uint64_t>(1, arena)));
    points += std::to_string(x) + "," + std::to_string(y) + " ";
  }
  return points;
}

} // namespace

std::string html(const plan::Plan &plan) {
  Facts facts = gather(plan);
  constexpr int width = 960, height = 240;
  std::string out = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" +
                    escape(plan.model_path()) +
                    "</title>\n<style>body{font:15px sans-serif;max-width:1000px;margin:2em "
                    "auto}td{padding:.1em 1em}"
                    "td:nth-child(2){text-align:right}pre{overflow-x:auto}</style></head><body>\n";
  out += "<h1>" + escape(plan.model_path()) + "</h1>\n<p>Promised peak: <b>" +
         bytesText(plan.promise().arena_bytes()) + "</b> (" +
         std::to_string(plan.promise().arena_bytes()) + " bytes), activation checkpointing " +
         escape(plan.ac_policy()) + "</p>\n<h2>At the peak</h2>\n<table>\n";
  for (const auto &[name, bytes] : facts.categories)
    out += "<tr><td>" + name + "</td><td>" + bytesText(bytes) + "</td></tr>\n";
  out += "</table>\n<h2>Live bytes, instruction by instruction</h2>\n<svg viewBox=\"0 0 " +
         std::to_string(width) + " " + std::to_string(height) +
         "\" width=\"100%\"><rect width=\"100%\" height=\"100%\" fill=\"#eee\"/>"
         "<polyline fill=\"none\" stroke=\"#05a\" stroke-width=\"1.5\" points=\"" +
         curve(facts.live, plan.arena_bytes(), width, height) + "\"/>";
  if (!facts.live.empty()) {
    double x =
        static_cast<double>(plan.forward_end()) * width / static_cast<double>(facts.live.size());
    out += "<line x1=\"" + std::to_string(x) + "\" x2=\"" + std::to_string(x) +
           "\" y1=\"0\" y2=\"" + std::to_string(height) +
           "\" stroke=\"#a50\" stroke-dasharray=\"4\"/>";
  }
  out += "</svg>\n<p>Top edge: the arena. Dashed: end of the forward "
         "pass.</p>\n<h2>Details</h2>\n<pre>" +
         escape(inspectText(plan)) + "</pre>\n</body></html>\n";
  return out;
}

} // namespace amc::report
