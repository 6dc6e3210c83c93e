#include "vggflow/report/set_sheet.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/report/page.h"
#include "vggflow/report/plot.h"
#include "vggflow/report/thumbnail.h"

namespace vggflow {
namespace {

constexpr const char* kStyle =
    "<style>.strip{display:grid;grid-template-columns:repeat(8,1fr);gap:4px}.strip "
    "img{width:100%;display:block;image-rendering:pixelated;border-radius:4px}"
    ".side{font-size:12px;color:var(--muted);margin:6px 0 "
    "2px}td.left{text-align:left;white-space:normal;max-width:48ch}</style>";

std::string label_of(const std::string& name, const std::string& network) {
  return network.empty() ? name : name + " · " + network;
}

std::string shown_mean(const std::optional<PromptMean>& m) {
  if (!m) return "–";
  const std::string error = m->estimate.se ? fmt::format(" ± {:.2g}", *m->estimate.se) : "";
  const std::string interval = m->interval
                                   ? fmt::format(" <span class='sub'>[{:.3g}, {:.3g}]</span>",
                                                 m->interval->low, m->interval->high)
                                   : "";
  return fmt::format("{:.4g}{}{}", m->estimate.mean, error, interval);
}

std::string set_line(const char* letter, const MeasuredSet& s) {
  std::string line =
      fmt::format("{}: {}, {} images of {} prompts, {:.1f} % of pixel values saturated", letter,
                  escape_html(s.name), s.size(), s.grouped.groups.size(), 100 * s.saturated);
  if (s.without_prompt > 0)
    line += fmt::format("; {} have no prompt, and rewards that read one are given the empty one",
                        s.without_prompt);
  for (const auto& [reward, count] : s.unscored())
    line += fmt::format("; {} have no score of {}", count, escape_html(reward));
  if (s.left_out > 0) line += fmt::format("; left out for want of a prompt: {}", s.left_out);
  if (!s.unread.empty()) line += "; " + escape_html(unread_note(s.unread));
  return line;
}

std::string means_table(const SetComparison& c) {
  std::string rows;
  for (const PromptMeasure& m : c.by_prompt) {
    rows += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                        escape_html(label_of(m.name, m.network)), m.a.n, shown_mean(m.a),
                        shown_mean(m.b), shown_mean(m.change));
  }
  for (const PromptMeasure& m : c.by_prompt) {
    if (const double factor = published_factor(m); factor != 1) {
      rows += fmt::format(
          "<tr><td>{}, as published: {:g} times "
          "ours</td><td>{}</td><td>{:.4g}</td><td>{}</td><td></td></tr>",
          escape_html(label_of(m.name, m.network)), factor, m.a.n, factor * m.a.estimate.mean,
          m.b ? fmt::format("{:.4g}", factor * m.b->estimate.mean) : "–");
    }
  }
  if (rows.empty()) return "";
  const char* errors =
      c.over_images ? "There are no prompts: ± is the standard error over images (of diversity and "
                      "Vendi score a jackknife), in brackets the bootstrap's 95 % "
                      "interval; the change is that of independent sets."
      : c.a.grouped.groups.size() == 1
          ? "One prompt: there are no errors, images of one prompt say nothing of others."
          : "± is the standard error over prompts, in brackets the bootstrap's 95 % interval; the "
            "change is paired by prompt. In "
            "the rows of the distance by prompt, B is the floor: base against base.";
  return fmt::format(
      "<h2>Means over {0}</h2><p class='sub'>{1}</p><div class='box scroll'><table "
      "class='tight'><tr><th>measure</th><th>{0}</th><th>A</th><th>B</th>"
      "<th>A − B</th></tr>{2}</table></div>",
      c.unit(2), errors, rows);
}

std::string distance_table(const SetComparison& c) {
  if (c.as_a_whole.empty()) return "";
  std::string rows;
  const auto cell = [](const std::optional<double>& v) {
    return v ? fmt::format("{:.5g}", *v) : std::string("–");
  };
  for (const SetMeasure& m : c.as_a_whole) {
    const std::string matched = c.base ? "" : "<td>" + cell(m.matched) + "</td>";
    rows += fmt::format("<tr><td>{}</td><td>{:.5g}</td><td>{}</td>{}<td>{}</td></tr>",
                        escape_html(label_of(m.name, m.network)), m.value,
                        m.se ? fmt::format("{:.2g}", *m.se) : "–", matched, cell(m.floor));
  }
  const char* floor = c.base
                          ? "The floor is the distance of the base's second set to B, at full size."
                          : "The floor is the distance between two halves of B; hold it against "
                            "the distance of half of A to half of B, which is as biased.";
  return fmt::format(
      "<h2>Distance of A to B</h2><p class='sub'>The error is a jackknife over {}. {}</p><div "
      "class='box scroll'><table><tr><th>measure</th><th>A to B"
      "</th><th>error</th>{}<th>floor</th></tr>{}</table></div>",
      c.unit(2), floor, c.base ? "" : "<th>half to half</th>", rows);
}

std::string networks_table(const SetComparison& c) {
  std::string rows;
  for (size_t n = 0; n < c.networks.size(); ++n) {
    rows +=
        fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                    escape_html(c.networks[n]->name()), escape_html(c.networks[n]->weights_hash()),
                    c.a.features[n].size(1), shown(vendi_score(c.a.features[n]), 2),
                    c.b ? shown(vendi_score(c.b->features[n]), 2) : "–");
  }
  return "<h2>Networks</h2><div class='box "
         "scroll'><table><tr><th>network</th><th>weights</th><th>features</th><th>Vendi score of "
         "A</th><th>of B</th></tr>" +
         rows + "</table></div>";
}

// Prompts by the change of the first measure that has one: the largest fall first.
std::string prompt_table(const SetComparison& c) {
  const auto m = std::find_if(c.by_prompt.begin(), c.by_prompt.end(),
                              [](const PromptMeasure& p) { return p.change.has_value(); });
  if (m == c.by_prompt.end()) return "";
  const std::map<std::string, double> before(m->values_b.begin(), m->values_b.end());
  std::vector<std::tuple<double, std::string, double, double>> rows;
  for (const auto& [group, v] : m->values_a) {
    if (const auto b = before.find(group); b != before.end())
      rows.emplace_back(v - b->second, group, v, b->second);
  }
  std::sort(rows.begin(), rows.end());
  std::string out;
  for (const auto& [change, group, a, b] : rows) {
    out += fmt::format(
        "<tr><td class='left'>{}</td><td>{:.4g}</td><td>{:.4g}</td><td>{:+.4g}</td></tr>",
        escape_html(group), a, b, change);
  }
  return fmt::format(
      "<h2>Prompts</h2><details><summary>{} by prompt, the largest fall first</summary><div "
      "class='box scroll'><table><tr><th>prompt</th><th>A</th><th>B</th>"
      "<th>A − B</th></tr>{}</table></div></details>",
      escape_html(label_of(m->name, m->network)), out);
}

std::string strip(const ImageSet& set, const GroupedImages& grouped, const std::string& group) {
  const auto found = std::find(grouped.groups.begin(), grouped.groups.end(), group);
  if (found == grouped.groups.end()) return "";
  const auto& places = grouped.places[static_cast<size_t>(found - grouped.groups.begin())];
  std::string out = "<div class='strip'>";
  for (size_t i = 0; i < std::min<size_t>(8, places.size()); ++i) {
    out += thumbnail(set.pixels(places[i]), 160, set.labels[static_cast<size_t>(places[i])]);
  }
  return out + "</div>";
}

std::string pictures(const SetComparison& c, const ImageSet& a, const std::optional<ImageSet>& b) {
  std::string out = "<h2>Images</h2><div class='grid2'>";
  for (size_t g = 0; g < std::min<size_t>(12, c.a.grouped.groups.size()); ++g) {
    const std::string& group = c.a.grouped.groups[g];
    out += "<figure><div class='side'>A</div>" + strip(a, c.a.grouped, group);
    if (b) out += "<div class='side'>B</div>" + strip(*b, c.b->grouped, group);
    out += "<figcaption>" + (group.empty() ? "no prompt" : escape_html(group)) +
           "</figcaption></figure>";
  }
  return out + "</div>";
}

std::string identical_warning(const MeasuredSet& s, const char* letter) {
  if (s.identical == 0) return "";
  return fmt::format(
      "<div class='box warn'>{} of {} images of set {} repeat another image of their prompt bit "
      "for bit: the same prompt and noise were drawn twice, so that "
      "errors and distances are of {} images.</div>",
      s.identical, s.size(), letter, s.size() - s.identical);
}

}  // namespace

std::string overlap_html(const PromptOverlap& o) {
  if (o.found() == 0)
    return fmt::format(
        "<div class='box ok'>None of the {} prompts is among the {} training prompts, nor close to "
        "one.</div>",
        o.eval, o.train);
  std::string rows;
  for (const auto& e : o.examples) {
    rows +=
        fmt::format("<tr><td class='left'>{}</td><td class='left'>{}</td><td>{:.0f} %</td></tr>",
                    escape_html(e.eval), escape_html(e.train), 100 * e.shared_words);
  }
  return fmt::format(
      "<div class='box warn'>{} of {} prompts are among the {} training prompts: {} to the letter, "
      "{} but for case and punctuation, {} in most of their words. "
      "What is measured on them is not held out.</div><div class='box "
      "scroll'><table><tr><th>prompt</th><th>training prompt</th><th>words shared</th></tr>{}"
      "</table></div>",
      o.found(), o.eval, o.train, o.exact, o.normalized, o.near, rows);
}

Json overlap_json(const PromptOverlap& o) {
  Json examples = Json::array();
  for (const auto& e : o.examples)
    examples.push_back({{"eval", e.eval}, {"train", e.train}, {"shared_words", e.shared_words}});
  return {{"train", o.train},           {"eval", o.eval}, {"exact", o.exact},
          {"normalized", o.normalized}, {"near", o.near}, {"examples", examples}};
}

std::string comparison_sheet(const SetComparison& c, const ImageSet& a,
                             const std::optional<ImageSet>& b,
                             const std::optional<PromptOverlap>& overlap) {
  std::string body = kStyle + std::string("<h1>") + (b ? "Two sets of images" : "A set of images") +
                     "</h1><p class='sub'>" + set_line("A", c.a);
  if (c.b) body += "<br>" + set_line("B", *c.b);
  if (c.base) body += "<br>" + set_line("Second set of the base", *c.base);
  if (c.shared) body += fmt::format("<br>A and B have {} prompts in common", *c.shared);
  body += "</p>";
  for (const std::string& warning : c.warnings)
    body += "<div class='box warn'>" + escape_html(warning) + ".</div>";
  body += identical_warning(c.a, "A") + (c.b ? identical_warning(*c.b, "B") : "");
  body +=
      means_table(c) + distance_table(c) + networks_table(c) + prompt_table(c) + pictures(c, a, b);
  if (overlap) body += "<h2>Training prompts</h2>" + overlap_html(*overlap);
  return html_page("image sets", body);
}

}  // namespace vggflow
