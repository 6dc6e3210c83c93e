#pragma once
// The commands of the binary, one file each: they read their settings and make one call into the
// libraries. Each returns an exit code (command.h). commands.cpp holds their names and summaries.

#include <span>

#include "vggflow/core/command_line.h"

namespace vggflow::cli {

/// Encodes photographs into the latents that a flow model is trained on.
int prepare(const Call& call);
/// Trains the nano flow model, a reward model or the judge.
int pretrain(const Call& call);
/// Aligns a flow model and writes the run's report.
int align(const Call& call);
/// Images of prompts as PNG files.
int sample(const Call& call);
/// A LoRA or a guided base against the base.
int eval(const Call& call);
/// A LoRA at several strengths.
int sweep(const Call& call);
/// Compares two sets of images.
int metrics(const Call& call);
/// The report of one run, or a Markdown comparison of several.
int report(const Call& call);
/// A live page of runs.
int watch(const Call& call);
/// Blind votes between two LoRAs, or a LoRA and the base.
int vote(const Call& call);
/// Runs methods x settings x seeds and writes one report.
int compare(const Call& call);
/// What a run of `align` with these settings will need, before anything is loaded.
int plan(const Call& call);
/// A LoRA in another program's layout, or merged into a model folder (convert/lora_export.h).
int export_lora(const Call& call);
/// A model in another layout or number format (convert/model_convert.h).
int convert(const Call& call);
/// Scores of images by rewards, as JSON lines and as a sheet (eval/score.h).
int score(const Call& call);
/// What is in a safetensors file or a model folder.
int inspect(const Call& call);
/// Proves the installation, a reward, or the methods on problems with known answers.
int check(const Call& call);
/// Reference pages, shell completion and the man page, made from the other commands' lists.
int docs(const Call& call);

struct Command {
  const char* name;
  int (*run)(const Call&);
  const char* summary;
};
/// All commands, in the order of the help.
std::span<const Command> commands();

}  // namespace vggflow::cli
