#include "vggflow/families/sd3/prompts.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/hash.h"
#include "vggflow/core/listing.h"
#include "vggflow/device/device.h"
#include "vggflow/io/files.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

// (B, T) of B prompts' ids.
template <class Pick>
Tensor stack_ids(auto prompts, Pick pick) {
  std::vector<Tensor> rows;
  for (const auto& p : prompts) rows.push_back(at::tensor(pick(p).ids, at::kLong));
  return at::stack(rows);
}

uint64_t hash_tensor(const Tensor& given, uint64_t seed) {
  const Tensor x = given.cpu().contiguous();
  return fnv1a({static_cast<const char*>(x.const_data_ptr()), x.nbytes()}, seed);
}

// A hash of both tensors' bytes: a bit that fell over in a kept result is found.
std::string content_hash(const Conditioning& c) {
  return fmt::format("{:016x}", hash_tensor(c.pooled, hash_tensor(c.context, kHashStart)));
}

Tensor text_tensor(const std::string& text) {
  Tensor out = at::empty({static_cast<int64_t>(text.size())}, at::kByte);
  if (!text.empty()) std::memcpy(out.mutable_data_ptr(), text.data(), text.size());
  return out;
}

// Of the small files of a component: configuration, vocabulary, merges, T5's model.
uint64_t hash_settings(const fs::path& folder, uint64_t hash) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const auto ending = entry.path().extension();
    if (entry.is_regular_file() && (ending == ".json" || ending == ".txt" || ending == ".model"))
      files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files)
    hash = fnv1a(read_text(file), fnv1a(file.filename().string(), hash));
  return hash;
}

}  // namespace

Conditioning sd3_conditioning(const ClipTextOutput& clip_l, const ClipTextOutput& clip_g,
                              const Tensor& t5, const Sd3PromptOptions& options) {
  const int64_t b = clip_l.penultimate.size(0),
                wide = clip_l.penultimate.size(2) + clip_g.penultimate.size(2);
  VGGFLOW_CHECK(wide <= options.context_dim,
                "[sd3_prompt] expected CLIP tokens of at most {} channels together, got {}",
                options.context_dim, wide);
  VGGFLOW_CHECK(!t5.defined() || t5.size(2) == options.context_dim,
                "[sd3_prompt] expected T5 tokens of {} channels, got {}", options.context_dim,
                shape_string(t5));
  const Tensor clip = at::constant_pad_nd(at::cat({clip_l.penultimate, clip_g.penultimate}, -1),
                                          {0, options.context_dim - wide});
  const Tensor tail =
      t5.defined() ? t5 : at::zeros({b, options.t5_tokens, options.context_dim}, clip.options());
  return {at::cat({clip, tail}, 1), at::cat({clip_l.pooled, clip_g.pooled}, -1)};
}

Sd3PromptEncoder::Sd3PromptEncoder(const fs::path& folder, const Sd3PromptOptions& options,
                                   OpenWeights open)
    : folder_(folder),
      options_(options),
      open_(std::move(open)),
      tokenizer_l_(folder / "tokenizer"),
      tokenizer_g_(folder / "tokenizer_2") {
  VGGFLOW_CHECK(options.t5_tokens > 0 && options.batch > 0,
                "[sd3_prompt] expected t5_tokens and batch of at least 1, got {} and {}",
                options.t5_tokens, options.batch);
  if (options.use_t5) tokenizer_t5_.emplace(folder / "tokenizer_3");
  pooled_dim_ = ClipTextOptions::read(folder / "text_encoder").projection +
                ClipTextOptions::read(folder / "text_encoder_2").projection;
  if (!open_)
    open_ = [folder, variant = options.variant](const std::string& component) {
      return open_component(folder / component, variant);
    };
  // Opening refuses absent weights now and not at the first prompt; only kept results need to know
  // them, which reads from every part of the files.
  const auto number = [&](const std::string& end) -> std::string {
    const ComponentWeights weights = open_("text_encoder" + end);
    if (options.cache.empty()) return "";
    const uint64_t encoder = hash_settings(folder / ("text_encoder" + end), fingerprint(weights));
    return fmt::format("{:016x}", hash_settings(folder / ("tokenizer" + end), encoder));
  };
  weights_ = fmt::format("{}-{}-{}-{}-{}-{}", number(""), number("_2"),
                         options.use_t5 ? number("_3") : "none", options.t5_tokens,
                         options.context_dim, c10::toString(options.dtype));
  if (!options.cache.empty()) make_writable_folder(options.cache);
}

Sd3Prompt Sd3PromptEncoder::encode(const std::vector<std::string>& prompts) {
  VGGFLOW_CHECK(!prompts.empty(), "[sd3_prompt] expected at least one prompt, got none");
  const at::NoGradGuard frozen;
  Sd3Prompt out;
  std::map<std::string, Conditioning> known;
  std::vector<std::string> missing;
  std::vector<Ids> missing_ids;
  std::vector<std::string> cuts;  // the encoders that cut, prompt by prompt
  int64_t cut_prompts = 0;
  std::string first_cut;
  for (const std::string& prompt : prompts) {
    if (known.contains(prompt)) continue;
    const size_t before = cuts.size();
    const Ids ids = tokenize(prompt, cuts);
    cut_prompts += cuts.size() > before;
    for (const std::string& removed : {ids.clip_l.removed, ids.clip_g.removed, ids.t5.removed}) {
      if (first_cut.empty()) first_cut = removed;
    }
    std::optional<Conditioning> kept = read_entry(prompt, out.warnings);
    if (!kept) {
      missing.push_back(prompt);
      missing_ids.push_back(ids);
    }
    known[prompt] = kept.value_or(Conditioning{});
  }
  if (cut_prompts > 0) {
    const std::set<std::string> encoders(cuts.begin(), cuts.end());
    out.warnings.push_back(
        fmt::format("{} of {} prompts are longer than an encoder reads and were cut, by {}; the "
                    "first lost '{}'",
                    cut_prompts, known.size(), fmt::join(encoders, ", "), clipped(first_cut, 80)));
  }
  for (size_t begin = 0; begin < missing.size(); begin += static_cast<size_t>(options_.batch)) {
    const size_t count = std::min(missing.size() - begin, static_cast<size_t>(options_.batch));
    const Conditioning batch = run(std::span(missing_ids).subspan(begin, count));
    for (size_t i = 0; i < count; ++i) {
      const auto at = static_cast<int64_t>(i);
      const Conditioning own{batch.context.narrow(0, at, 1).clone(),
                             batch.pooled.narrow(0, at, 1).clone()};
      write_entry(missing[begin + i], own);
      known[missing[begin + i]] = own;
    }
  }
  std::vector<Tensor> context, pooled;
  for (const std::string& prompt : prompts) {
    context.push_back(known.at(prompt).context);
    pooled.push_back(known.at(prompt).pooled);
  }
  out.embeddings = {at::cat(context), at::cat(pooled)};
  return out;
}

Sd3PromptEncoder::Ids Sd3PromptEncoder::tokenize(const std::string& prompt,
                                                 std::vector<std::string>& cuts) const {
  Ids ids{tokenizer_l_.encode(prompt), tokenizer_g_.encode(prompt), {}};
  if (tokenizer_t5_) ids.t5 = tokenizer_t5_->encode(prompt, options_.t5_tokens);
  const auto note = [&](const char* encoder, int64_t limit, const std::string& removed) {
    if (!removed.empty()) cuts.push_back(fmt::format("{} (reads {} tokens)", encoder, limit));
  };
  // The two cut at different places only where their rules for "!" make another number of tokens of
  // a prompt.
  const bool alike = ids.clip_l.removed == ids.clip_g.removed;
  note(alike ? "CLIP" : "CLIP-L", tokenizer_l_.max_tokens() - 2, ids.clip_l.removed);
  if (!alike) note("CLIP-G", tokenizer_g_.max_tokens() - 2, ids.clip_g.removed);
  note("T5", options_.t5_tokens - 1, ids.t5.removed);
  return ids;
}

const Sd3TextEncoders& Sd3PromptEncoder::encoders() {
  if (!encoders_) {
    ++loads_;
    const auto clip = [&](const std::string& name) {
      return ClipTextModel::load(ClipTextOptions::read(folder_ / name), open_(name),
                                 options_.dtype);
    };
    const auto t5 = [&](const std::string& name) {
      return T5Encoder::load(T5Options::read(folder_ / name), open_(name), options_.dtype);
    };
    encoders_ = {clip("text_encoder"), clip("text_encoder_2"),
                 options_.use_t5 ? t5("text_encoder_3") : nullptr};
  }
  return *encoders_;
}

Conditioning Sd3PromptEncoder::run(std::span<const Ids> ids) {
  const Sd3TextEncoders& e = encoders();
  encoded_ += std::ssize(ids);
  const auto l = e.clip_l->forward(stack_ids(ids, [](const Ids& i) { return i.clip_l; }));
  const auto g = e.clip_g->forward(stack_ids(ids, [](const Ids& i) { return i.clip_g; }));
  return sd3_conditioning(
      l, g, e.t5 ? e.t5->forward(stack_ids(ids, [](const Ids& i) { return i.t5; })) : Tensor{},
      options_);
}

fs::path Sd3PromptEncoder::entry(const std::string& prompt) const {
  return options_.cache / fmt::format("{:016x}.safetensors", fnv1a(weights_, fnv1a(prompt)));
}

// Throws for an entry that is damaged or is another prompt's.
Conditioning Sd3PromptEncoder::checked_entry(const std::string& prompt) const {
  const SafetensorsFile file(entry(prompt));
  const auto metadata = [&](const std::string& key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  VGGFLOW_CHECK(
      metadata("weights") == weights_ && file.contains("prompt") && file.bytes("prompt") == prompt,
      "it is of another prompt or model");
  Conditioning value{file.load("context"), file.load("pooled")};
  const std::vector<int64_t> context{1, tokenizer_l_.max_tokens() + options_.t5_tokens,
                                     options_.context_dim},
      pooled{1, pooled_dim_};
  VGGFLOW_CHECK(value.context.sizes() == context && value.pooled.sizes() == pooled &&
                    value.context.scalar_type() == options_.dtype &&
                    metadata("content") == content_hash(value),
                "its content is damaged");
  return {value.context.to(current_device()), value.pooled.to(current_device())};
}

std::optional<Conditioning> Sd3PromptEncoder::read_entry(const std::string& prompt,
                                                         std::vector<std::string>& warnings) const {
  if (options_.cache.empty() || !fs::exists(entry(prompt))) return std::nullopt;
  try {
    return checked_entry(prompt);
  } catch (const Error& e) {
    warnings.push_back(fmt::format("the kept embedding {} of the prompt '{}' is made anew: {}",
                                   entry(prompt).string(), prompt, e.what()));
    return std::nullopt;
  }
}

void Sd3PromptEncoder::write_entry(const std::string& prompt, const Conditioning& value) const {
  if (options_.cache.empty()) return;
  write_safetensors(
      entry(prompt),
      {{"context", value.context}, {"pooled", value.pooled}, {"prompt", text_tensor(prompt)}},
      {{"weights", weights_}, {"content", content_hash(value)}});
}

}  // namespace vggflow
