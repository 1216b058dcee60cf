// The report as one page that loads nothing: pictures are drawn by page.js from PageFacts, tables
// are written here, so that they can be read without scripts too.
#include "compiler/report/Assets.h"
#include "compiler/report/PageFacts.h"
#include "compiler/report/Peak.h"
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
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

std::string percent(double share) { return format("%.1f%%", 100 * share); }

// Cells that start with '\1' are numbers.
std::string row(const std::vector<std::string> &cells, const char *tag = "td",
                const char *attributes = "") {
  std::string out = std::string("<tr") + attributes + ">";
  for (const std::string &cell : cells) {
    bool number = !cell.empty() && cell[0] == '\1';
    out += std::string("<") + tag + (number ? " class=\"n\">" : ">") +
           escape(number ? cell.substr(1) : cell) + "</" + tag + ">";
  }
  return out + "</tr>\n";
}
std::string number(const std::string &text) { return "\1" + text; }

std::string card(const std::string &title, const std::string &value) {
  return "<li><span>" + escape(title) + "</span><b>" + escape(value) + "</b></li>\n";
}

std::string head(const plan::Plan &plan) {
  const plan::Promise &promise = plan.promise();
  std::string out = "<h1>" + escape(plan.model_path()) + "</h1>\n<p class=\"soft\">" +
                    escape(plan.target()) + ", " + escape(plan.precision()) +
                    ", activation checkpointing " + escape(plan.ac_policy());
  if (!plan.optimizer().empty())
    out += ", " + escape(plan.optimizer());
  out += ", " + std::to_string(plan.instructions_size()) + " instructions</p>\n<ul class=\"cards\">\n";
  out += card("promised peak: the arena", bytesText(promise.arena_bytes()));
  out += card("saved for backward", bytesText(promise.saved_bytes()));
  out += card("recomputed a micro-batch",
              format("%.3f TFLOP", static_cast<double>(promise.flops_recompute()) * 1e-12));
  for (const char *device : modelledDevices)
    if (std::optional<ModelledTime> time = modelledTime(plan, device))
      out += card(std::string("modelled time of that on ") + device, "+" + percent(time->overhead()));
  for (const plan::Attribute &note : plan.notes())
    if (note.name() == "memory_budget_bytes")
      out += card("memory budget", bytesText(static_cast<uint64_t>(note.i())));
  return out + "</ul>\n";
}

std::string categories(const plan::Plan &plan) {
  const plan::Promise &promise = plan.promise();
  std::string out = "<div><h2>The peak, added up</h2>\n<table class=\"narrow\">\n";
  for (const auto &[name, bytes] : categoriesAtPeak(plan)) {
    std::string spaced = name;
    std::replace(spaced.begin(), spaced.end(), '_', ' ');
    out += row({spaced, number(bytesText(bytes)), number(std::to_string(bytes))});
  }
  out += row({"alive", number(bytesText(promise.max_live_bytes())),
              number(std::to_string(promise.max_live_bytes()))},
             "td", " class=\"sum\"");
  uint64_t gap = promise.arena_bytes() - promise.max_live_bytes();
  out += row({"fragmentation", number(bytesText(gap)), number(std::to_string(gap))});
  out += row({"arena", number(bytesText(promise.arena_bytes())),
              number(std::to_string(promise.arena_bytes()))},
             "td", " class=\"sum\"");
  return out + "</table></div>\n";
}

std::string kernels(const char *title, const std::vector<Group> &groups, bool bytes) {
  std::string out = std::string("<div><h2>") + title + "</h2>\n";
  if (groups.empty())
    return out + "<p class=\"soft\">nothing</p></div>\n";
  out += "<table class=\"narrow\">\n" +
         row({"operation", number("times"), number(bytes ? "bytes" : "GFLOP")}, "th");
  for (const Group &group : groups)
    out += row({group.name, number(std::to_string(group.count)),
                number(bytes ? bytesText(group.bytes)
                             : format("%.3f", static_cast<double>(group.flops) * 1e-9))});
  return out + "</table></div>\n";
}

std::string aliveTable(const Values &values) {
  constexpr size_t shown = 40;
  std::vector<AliveGroup> groups =
      group(values, values.aliveAt(values.plan.promise().peak_instruction()));
  std::string out = "<h2>Alive at the peak</h2>\n<table class=\"alive\">\n" +
                    row({number("together"), number("times"), number("each"), "is", "type",
                         "operation", "the largest of them", "why"},
                        "th");
  uint64_t rest = 0, others = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    const AliveGroup &group = groups[i];
    if (i >= shown) {
      rest += group.bytes;
      others += group.count;
      continue;
    }
    const Value &value = *group.first;
    out += row({number(bytesText(group.bytes)), number(std::to_string(group.count)),
                number(bytesText(group.bytes / group.count)), roleName(value.role),
                values.dtype(value) + " " + values.shape(value), values.kernel(value),
                values.name(value), values.why(value)});
  }
  if (others)
    out += row({number(bytesText(rest)), number(std::to_string(others)), "", "others"});
  out += row({number(bytesText(values.plan.promise().max_live_bytes())), "", "", "all"}, "td",
             " class=\"sum\"");
  return out + "</table>\n";
}

std::string blocks(const plan::Plan &plan) {
  std::vector<BlockRun> runs = blockRuns(plan);
  if (runs.empty())
    return "";
  std::string out = "<div><h2>Blocks</h2>\n<table class=\"narrow\">\n" +
                    row({"blocks", number("kinds"), number("operations each"), number("bytes entering")},
                        "th");
  for (const BlockRun &run : runs)
    out += row({format("%llu to %llu", static_cast<unsigned long long>(run.first),
                       static_cast<unsigned long long>(run.first + run.count - 1)),
                number(std::to_string(run.kinds)), number(std::to_string(run.operations)),
                number(bytesText(run.inputBytes))});
  return out + "</table></div>\n";
}

std::string picture(const char *id, const char *label, int height) {
  return std::string("<div class=\"picture\" id=\"") + id + "\" tabindex=\"0\" role=\"application\" aria-label=\"" +
         label + "\"><svg viewBox=\"0 0 1000 " + std::to_string(height) +
         "\" aria-hidden=\"true\"></svg></div>\n<div class=\"detail\" id=\"" + id +
         "-detail\" aria-live=\"polite\"></div>\n";
}

std::string legend() {
  std::string out = "<ul class=\"legend\">\n";
  for (Role role : {Role::Parameter, Role::State, Role::Constant, Role::Input, Role::Gradient,
                    Role::Saved, Role::Recomputed, Role::Forward, Role::Backward, Role::Update,
                    Role::Workspace}) {
    const char *what = role == Role::Parameter    ? "weights"
                       : role == Role::State      ? "optimizer state"
                       : role == Role::Constant   ? "constants"
                       : role == Role::Input      ? "inputs"
                       : role == Role::Gradient   ? "gradients of weights"
                       : role == Role::Saved      ? "saved for backward"
                       : role == Role::Recomputed ? "recomputed"
                       : role == Role::Forward    ? "of the forward pass alone"
                       : role == Role::Backward   ? "of the backward pass"
                       : role == Role::Update     ? "of the update"
                                                  : "scratch";
    out += std::string("<li><i style=\"background:var(--") + roleName(role) + ")\"></i>" + what +
           "</li>\n";
  }
  return out + "</ul>\n";
}

std::string pareto(const plan::Plan &plan) {
  std::string out = "<h2>Peak against recomputation</h2>\n";
  if (paretoCurve(plan).empty())
    return out + "<p class=\"soft\">This plan has no curve with it: amc compile computes one with "
                 "--report.</p>\n";
  return out +
         "<p class=\"soft\">What recomputation is modelled to cost, beside a step without any, for the "
         "smallest arena that was found, for keeping everything, and between. To the right of a point "
         "nothing cheaper was found until the next.</p>\n" +
         picture("pareto", "peak against recomputation", 290);
}

} // namespace

std::string html(const plan::Plan &plan) {
  Facts facts = gather(plan);
  Values values(plan);
  PageFacts page = pageFacts(values);
  std::string out =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta "
      "name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta "
      "http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>" +
      escape(plan.model_path()) + " - memory</title>\n<style>\n" + pageStyle +
      "</style></head><body>\n" + head(plan);
  out += "<h2>Memory over the step</h2>\n<p class=\"soft\">Instructions from left to right. Dashed: the "
         "peak, and the top of the arena. Point, or use the arrow keys, to see what is alive; p goes to "
         "the peak.";
  if (plan.instructions_size() > static_cast<int>(PageLimits().columns))
    out += format(" %d instructions in %zu columns: each shows the fullest of its instructions.",
                  plan.instructions_size(), PageLimits().columns);
  out += "</p>\n" + legend() + picture("memory", "memory over the step", 345);
  out += "<h2>The arena</h2>\n<p class=\"soft\">Every tensor at its place for as long as it is alive. "
         "Point, or use the arrow keys to go from the largest to the smallest.";
  if (page.tensors < page.allTensors)
    out += format(" %zu of %zu tensors are drawn: %s of all bytes times instructions.", page.tensors,
                  page.allTensors, percent(page.drawnShare).c_str());
  out += "</p>\n" + picture("arena", "the arena over the step", 425) + pareto(plan);
  out += "<div class=\"columns\">\n" + categories(plan) + blocks(plan) +
         kernels("Saved for backward", facts.saved, true) +
         kernels("Recomputed", facts.recomputed, false) + "</div>\n" + aliveTable(values);
  out += "<details><summary>amc inspect</summary>\n<pre>" + escape(inspectText(plan)) +
         "</pre></details>\n<noscript><p>The pictures are drawn by a script, which this browser does "
         "not run; the tables are complete.</p></noscript>\n<script type=\"application/json\" "
         "id=\"facts\">" +
         page.json + "</script>\n<script>\n" + pageScript + "</script>\n</body></html>\n";
  return out;
}

} // namespace amc::report
