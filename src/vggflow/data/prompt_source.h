#pragma once
// Where a run's prompts come from: the emoji set with its balanced draws and labels, the captions
// of photographs' classes, or files of prompts.

#include <memory>
#include <string>
#include <vector>

#include "vggflow/data/captions.h"

namespace vggflow {

struct PromptFiles {
  std::string train;
  std::string eval;
  std::vector<std::string> classes = {};

  /// Whether they say what to draw.
  bool given() const { return !train.empty() || !eval.empty() || !classes.empty(); }
  /// Throws where there are both files and classes.
  void check() const;

  template <class V>
  void fields(V& v) {
    v("train", train,
      "file of training prompts: one per line, or the column 'prompt' of a CSV, TSV or JSON file; "
      "required for training if prompts.eval is given");
    v("eval", eval,
      "file of evaluation prompts, used in order; empty: prompts.train if given, else the emoji "
      "captions");
    v("classes", classes,
      "instead of files: class names, whose captions 'a photo of a CLASS' are the prompts for "
      "training and evaluation; in the judge's order");
  }
};

class PromptSource {
 public:
  virtual ~PromptSource() = default;
  /// `count` prompts for the samples first..first+count-1 of an update, keyed by (seed, kPrompt,
  /// update, sample).
  virtual std::vector<Prompt> draw(uint64_t seed, uint64_t update, uint64_t first,
                                   int64_t count) const = 0;
  /// `count` different-as-possible prompts of evaluations; files give their first lines and refuse
  /// more than they have.
  virtual std::vector<Prompt> evaluation(Split split, uint64_t seed, int64_t count) const = 0;
  /// What evaluation's prompts are to training, for reports: "held-out", "training", "partly
  /// held-out", or "" where nothing tells.
  virtual std::string evaluation_kind(Split split) const = 0;
  /// Prompts of the grids that people look at.
  virtual std::vector<std::string> display() const = 0;
  /// Every prompt that may come, for encoding them beforehand; none where they are too cheap to
  /// matter.
  virtual std::vector<std::string> all() const { return {}; }
  /// Names of the classes that prompts carry and the judge should see, by their places; none where
  /// they carry none.
  virtual const std::vector<std::string>& classes() const {
    static const std::vector<std::string> none;
    return none;
  }
  bool labelled() const { return !classes().empty(); }
  /// Whether they are the emoji's.
  virtual bool emoji() const { return false; }
};

/// The emoji's prompts where `files` names neither files nor classes.
std::unique_ptr<PromptSource> make_prompt_source(const PromptFiles& files,
                                                 const EmojiOptions& emoji);

/// The captions alone.
std::vector<std::string> captions_of(const std::vector<Prompt>& prompts);

}  // namespace vggflow
