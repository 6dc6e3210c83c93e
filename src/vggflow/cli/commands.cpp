#include "vggflow/cli/commands.h"

namespace vggflow::cli {
namespace {

constexpr Command kCommands[] = {
    {"align", align, "Align a flow model with a reward, evaluate it, write the report."},
    {"sample", sample, "Sample images for prompts and write them as PNG files."},
    {"eval", eval, "Compare a LoRA or a guided base with the base on held-out prompts."},
    {"sweep", sweep, "Evaluate a LoRA at several strengths: reward against diversity."},
    {"metrics", metrics, "Compare two sets of images: folders, lists, models or LoRAs."},
    {"score", score, "Score images by rewards: JSON lines and a sheet, the best first."},
    {"report", report, "Write RUN/report.html; of several runs, print a Markdown comparison."},
    {"watch", watch, "Show runs while they train on a local page in the browser."},
    {"vote", vote, "Vote blind between two LoRAs, or a LoRA and the base, in the browser."},
    {"compare", compare, "Run methods x settings x seeds, resumable, and compare them."},
    {"plan", plan, "Predict memory and time of align, and what would make a run fit."},
    {"export", export_lora, "Write a LoRA for diffusers, PEFT or ComfyUI, or merge it."},
    {"convert", convert, "Write a Stable Diffusion 3 model in another layout or number format."},
    {"prepare", prepare, "Encode photographs into the latents that a flow model is trained on."},
    {"pretrain", pretrain, "Train the nano flow model, a reward model or the judge."},
    {"inspect", inspect, "List what is in a safetensors file, a model folder or a run."},
    {"check", check, "Prove this installation, a reward, or every method on known answers."},
    {"docs", docs, "Write reference pages, shell completion or the man page from these lists."}};

}  // namespace

std::span<const Command> commands() { return kCommands; }

}  // namespace vggflow::cli
