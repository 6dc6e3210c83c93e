#include "vggflow/data/prompt_source.h"

#include <algorithm>
#include <iterator>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/data/photo_set.h"
#include "vggflow/data/prompt_file.h"
#include "vggflow/data/prompt_sets.h"

namespace vggflow {
namespace {

constexpr ptrdiff_t kDisplayed = 16;

class EmojiPrompts : public PromptSource {
 public:
  explicit EmojiPrompts(const EmojiOptions& options) : EmojiPrompts(list_emoji(options)) {}
  std::vector<Prompt> draw(uint64_t seed, uint64_t update, uint64_t first,
                           int64_t count) const override {
    return sampler_.draw_prompts(Split::kTrain, seed, Purpose::kPrompt, update, first, count);
  }
  std::vector<Prompt> evaluation(Split split, uint64_t seed, int64_t count) const override {
    if (split == Split::kAll)
      return sampler_.draw_all_prompts(seed, Purpose::kEvalPrompt, 0, count);
    return sampler_.draw_prompts(split, seed, Purpose::kEvalPrompt, 0, 0, count);
  }
  std::string evaluation_kind(Split split) const override {
    return split == Split::kTrain ? "training"
           : split == Split::kAll ? "partly held-out"
                                  : "held-out";
  }
  std::vector<std::string> display() const override { return display_prompts(); }
  const std::vector<std::string>& classes() const override { return subgroups_; }
  bool emoji() const override { return true; }

 private:
  explicit EmojiPrompts(const EmojiSet& set) : sampler_(set), subgroups_(set.subgroups) {}
  EmojiSampler sampler_;
  std::vector<std::string> subgroups_;
};

// There are few classes, so training and evaluation share their captions and differ in noise alone.
class PhotoPrompts : public PromptSource {
 public:
  explicit PhotoPrompts(const std::vector<std::string>& classes) : classes_(classes) {}
  std::vector<Prompt> draw(uint64_t seed, uint64_t update, uint64_t first,
                           int64_t count) const override {
    std::vector<Prompt> drawn;
    for (const int64_t place :
         keyed_places(std::ssize(classes_), seed, Purpose::kPrompt, update, first, count))
      drawn.push_back(prompt(place));
    return drawn;
  }
  std::vector<Prompt> evaluation(Split, uint64_t, int64_t count) const override {
    VGGFLOW_CHECK(count <= std::ssize(classes_),
                  "[prompts] expected at most {} prompts, one per class, got eval.prompts={}",
                  classes_.size(), count);
    std::vector<Prompt> all;
    for (int64_t c = 0; c < count; ++c) all.push_back(prompt(c));
    return all;
  }
  std::string evaluation_kind(Split) const override { return "training"; }
  std::vector<std::string> display() const override { return photo_display(classes_); }
  const std::vector<std::string>& classes() const override { return classes_; }

 private:
  Prompt prompt(int64_t place) const {
    return {photo_caption(classes_[static_cast<size_t>(place)]), place, -1};
  }
  std::vector<std::string> classes_;
};

std::vector<Prompt> unlabelled(const std::vector<std::string>& captions) {
  std::vector<Prompt> out;
  for (const std::string& caption : captions) out.push_back({caption, -1, -1});
  return out;
}

class FilePrompts : public PromptSource {
 public:
  explicit FilePrompts(const PromptFiles& files) {
    const std::string& train = files.train.empty() ? files.eval : files.train;
    const std::string& eval = files.eval.empty() ? files.train : files.eval;
    train_ = read_prompts(train);
    eval_ = train == eval ? train_ : read_prompts(eval);
    if (files.train.empty()) return;
    kind_ = "training";
    if (train == eval) {
      log_info(
          "warning: {} serves training and evaluation: the figures say nothing about other prompts",
          train);
      return;
    }
    const PromptOverlap overlap = prompt_overlap(train_, eval_);
    if (overlap.found() < overlap.eval)
      kind_ = overlap.found() == 0 ? "held-out" : "partly held-out";
    if (overlap.found() == 0) return;
    log_info(
        "warning: {} of {} evaluation prompts are in the training set or close to one of it ({} "
        "equal, {} equal but for case and punctuation, {} near), such as '{}'",
        overlap.found(), overlap.eval, overlap.exact, overlap.normalized, overlap.near,
        overlap.examples.front().eval);
  }
  std::vector<Prompt> draw(uint64_t seed, uint64_t update, uint64_t first,
                           int64_t count) const override {
    std::vector<std::string> drawn;
    for (const int64_t place :
         keyed_places(std::ssize(train_), seed, Purpose::kPrompt, update, first, count))
      drawn.push_back(train_[static_cast<size_t>(place)]);
    return unlabelled(drawn);
  }
  std::vector<Prompt> evaluation(Split split, uint64_t, int64_t count) const override {
    const auto& list = split == Split::kTrain ? train_ : eval_;
    VGGFLOW_CHECK(
        count <= std::ssize(list),
        "[prompts] expected at most {} prompts, as many as the file has, got eval.prompts={}",
        list.size(), count);
    return unlabelled({list.begin(), list.begin() + count});
  }
  std::string evaluation_kind(Split split) const override {
    return split == Split::kTrain && !kind_.empty() ? "training" : kind_;
  }
  std::vector<std::string> display() const override {
    return {eval_.begin(), eval_.begin() + std::min(std::ssize(eval_), kDisplayed)};
  }
  std::vector<std::string> all() const override {
    std::vector<std::string> both = train_;
    both.insert(both.end(), eval_.begin(), eval_.end());
    return both;
  }

 private:
  std::vector<std::string> train_, eval_;
  std::string kind_;  // stays empty without a training file
};

}  // namespace

void PromptFiles::check() const {
  VGGFLOW_CHECK(classes.empty() || (train.empty() && eval.empty()),
                "[prompts] expected prompts.classes, or prompts.train and prompts.eval, got both");
}

std::unique_ptr<PromptSource> make_prompt_source(const PromptFiles& files,
                                                 const EmojiOptions& emoji) {
  files.check();
  if (!files.classes.empty()) return std::make_unique<PhotoPrompts>(files.classes);
  if (!files.given()) return std::make_unique<EmojiPrompts>(emoji);
  return std::make_unique<FilePrompts>(files);
}

std::vector<std::string> captions_of(const std::vector<Prompt>& prompts) {
  std::vector<std::string> out;
  for (const Prompt& p : prompts) out.push_back(p.caption);
  return out;
}

}  // namespace vggflow
