#include "vggflow/report/page.h"

#include <fmt/format.h>

#include <cmath>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/report/plot.h"

namespace vggflow {
namespace {

constexpr const char* kStyle = R"css(
:root{--bg:#fbfaf7;--fg:#1d1d1f;--muted:#6b6b70;--line:#e2e0da;--card:#fff;--c0:#2563eb;--c1:#d9480f;--c2:#2b8a3e;--c3:#9c36b5;--c4:#0c8599;--c5:#a07000;--c6:#c2255c;--c7:#5c6773;--c8:#74b816;--c9:#000000;--bad:#c92a2a}
@media(prefers-color-scheme:dark){:root{--bg:#17181a;--fg:#ececec;--muted:#9a9aa2;--line:#33353a;--card:#1f2124;--c0:#7aa2ff;--c1:#ff9466;--c2:#69db7c;--c3:#da77f2;--c4:#66d9e8;--c5:#ffd43b;--c6:#f783ac;--c7:#adb5bd;--c8:#c0eb75;--c9:#ffffff;--bad:#ff8787}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1200px;margin:0 auto;padding:32px 20px 64px}h1{font-size:28px;margin:0 0 4px;letter-spacing:-.01em}h2{font-size:19px;margin:40px 0 12px}
.sub{color:var(--muted);margin:0 0 24px}.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:12px}
.tile,.chart,figure,.box{background:var(--card);border:1px solid var(--line);border-radius:10px}.tile{padding:14px 16px}.tile b{display:block;font-size:25px;letter-spacing:-.02em}
.tile span{color:var(--muted);font-size:13px}.tile i{font-style:normal;font-size:13px;display:block}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:14px}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,360px),1fr));gap:14px}
figure{margin:0;padding:12px}figure img{width:100%;image-rendering:pixelated;border-radius:4px;display:block}figcaption{color:var(--muted);padding-top:8px;font-size:13px}
.chart{width:100%;height:auto;padding:4px}.chart text{fill:var(--fg);font:11px system-ui,sans-serif}.chart .title{font-size:13px;font-weight:600}.chart .tick{fill:var(--muted);font-size:10px}
.grid{stroke:var(--line)}path,line{fill:none;stroke-width:1.8}.dashed{stroke-dasharray:5 4}.band{opacity:.15}.bars line{opacity:.45}
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}.s4{stroke:var(--c4)}.s5{stroke:var(--c5)}.s6{stroke:var(--c6)}.s7{stroke:var(--c7)}.s8{stroke:var(--c8)}.s9{stroke:var(--c9)}
.f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}.f4{fill:var(--c4)}.f5{fill:var(--c5)}.f6{fill:var(--c6)}.f7{fill:var(--c7)}.f8{fill:var(--c8)}.f9{fill:var(--c9)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:var(--muted);font-weight:600}.box{padding:12px 16px;overflow-x:auto}pre{margin:0;font-size:12.5px;line-height:1.45}
.warn{border-left:4px solid var(--bad);margin:0 0 10px}.ok{border-left:4px solid var(--c2)}summary{cursor:pointer;color:var(--muted);margin:10px 0}
.faint{opacity:.4}.tiles.arms{grid-template-columns:repeat(auto-fit,minmax(170px,1fr))}.swatch{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:7px}.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0 0 12px;font-size:13px}
.b0{background:var(--c0)}.b1{background:var(--c1)}.b2{background:var(--c2)}.b3{background:var(--c3)}.b4{background:var(--c4)}.b5{background:var(--c5)}.b6{background:var(--c6)}.b7{background:var(--c7)}.b8{background:var(--c8)}.b9{background:var(--c9)}
.zoom{display:block;position:relative;cursor:zoom-in}.zoom input{position:absolute;opacity:0;width:1px;height:1px}.zoom input:focus-visible~img{outline:2px solid var(--c0)}
.zoom input:checked~img{position:fixed;inset:0;z-index:9;width:100vw;height:100vh;max-width:none;object-fit:contain;padding:2vmin;background:rgba(0,0,0,.86);border-radius:0;cursor:zoom-out}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--wide)),1fr));gap:12px}.cards figure{padding:8px}.cards figcaption{overflow-wrap:anywhere}
.shots{display:grid;gap:6px}.shots span{display:block;text-align:center;color:var(--muted);font-size:12px}.shots img{width:100%;aspect-ratio:1;object-fit:contain}
pre.command{white-space:pre-wrap;overflow-wrap:anywhere;padding:8px 10px;border:1px solid var(--line);border-radius:6px;margin:2px 0 12px}
h3{font-size:15px;margin:18px 0 8px}.tight th,.tight td{padding:5px 8px;font-size:13px}.note{color:var(--muted);font-size:13px;margin:6px 0 12px;max-width:95ch}.chosen td{font-weight:600}
)css";

}  // namespace

std::string html_page(const std::string& title, const std::string& body) {
  return "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' "
         "content='width=device-width,initial-scale=1'><title>vggflow: " +
         escape_html(title) + "</title><style>" + kStyle + "</style><main>" + body +
         "</main></html>\n";
}

std::string zoomable(const std::string& image) {
  return "<label class='zoom'><input type='checkbox' aria-label='enlarge'>" + image + "</label>";
}

std::string figure(const std::filesystem::path& png, const std::string& caption) {
  const std::string bytes = read_text(png);
  const std::string image = fmt::format("<img alt='{}' src='data:image/png;base64,{}'>",
                                        escape_html(caption), base64({bytes.begin(), bytes.end()}));
  return fmt::format("<figure>{}<figcaption>{}</figcaption></figure>", zoomable(image),
                     escape_html(caption));
}

double number(const Json& object, const std::string& path) {
  const Json::json_pointer at(path);
  return object.is_structured() && object.contains(at) && object[at].is_number()
             ? object[at].get<double>()
             : std::nan("");
}

std::string text(const Json& object, const char* name, const std::string& otherwise) {
  return object.is_object() && object.contains(name) && object[name].is_string()
             ? object[name].get<std::string>()
             : otherwise;
}

std::string prompt_words(const Json& eval_line) {
  const std::string kind = text(eval_line, "prompt_kind");
  return kind.empty() ? "prompts" : kind + " prompts";
}

std::string shown(double value, int digits, const char* after) {
  return std::isfinite(value) ? fmt::format("{:.{}f}{}", value, digits, after) : "–";
}

std::string shown_change(const Estimate& e, int digits, double factor) {
  if (!std::isfinite(e.mean)) return "–";
  return fmt::format("{:+.{}f}", factor * e.mean, digits) +
         (e.se ? " ± " + shown(factor * *e.se, digits) : "");
}

std::string shown(const Estimate& e, int digits, double factor) {
  return shown(factor * e.mean, digits) + (e.se ? " ± " + shown(factor * *e.se, digits) : "");
}

}  // namespace vggflow
