#include "vggflow/text/sentencepiece_model.h"

#include <bit>
#include <cstring>

#include "vggflow/core/error.h"
#include "vggflow/text/added_tokens.h"

namespace vggflow {
namespace {

// Walks the fields of one protocol buffer message; every length is checked against what is there.
class Message {
 public:
  explicit Message(std::string_view message) : rest_(message) {}

  /// Moves to the next field; false at the end.
  bool next() {
    if (rest_.empty()) return false;
    const uint64_t key = varint();
    field = key >> 3;
    switch (key & 7) {
      case 0:
        number = varint();
        break;
      case 1:
        bytes = take(8);
        break;
      case 2:
        bytes = take(varint());
        break;
      case 5:
        bytes = take(4);
        break;
      default:
        fail("unknown wire type {}", key & 7);
    }
    return true;
  }
  float as_float() const {
    VGGFLOW_CHECK(bytes.size() == 4, "a score of {} bytes", bytes.size());
    float value;
    std::memcpy(&value, bytes.data(), 4);
    return value;
  }

  uint64_t field = 0, number = 0;
  std::string_view bytes;

 private:
  std::string_view take(uint64_t count) {
    VGGFLOW_CHECK(count <= rest_.size(), "a field of {} bytes where {} are left", count,
                  rest_.size());
    const auto taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto b = static_cast<uint8_t>(take(1)[0]);
      value |= uint64_t{b & 0x7Fu} << shift;
      if (b < 0x80) return value;
    }
    fail("a number of more than ten bytes");
  }
  std::string_view rest_;
};

SentencePieceModel::Piece read_piece(Message message) {
  SentencePieceModel::Piece piece;
  while (message.next()) {
    if (message.field == 1) piece.text = message.bytes;
    if (message.field == 2) piece.score = message.as_float();
  }
  return piece;
}

void check_unigram(Message trainer_spec) {
  constexpr uint64_t kUnigram = 1;
  while (trainer_spec.next()) {
    VGGFLOW_CHECK(trainer_spec.field != 3 || trainer_spec.number == kUnigram,
                  "a model of type {} (unigram is {})", trainer_spec.number, kUnigram);
  }
}

CharacterMap read_normalizer(Message message) {
  CharacterMap map;
  while (message.next()) {
    if (message.field == 2) map = CharacterMap(message.bytes);
  }
  return map;
}

SentencePieceModel parse(std::string_view file) {
  SentencePieceModel model;
  Message message(file);
  while (message.next()) {
    if (message.field == 1) model.pieces.push_back(read_piece(Message(message.bytes)));
    if (message.field == 2) check_unigram(Message(message.bytes));
    if (message.field == 3) model.characters = read_normalizer(Message(message.bytes));
  }
  VGGFLOW_CHECK(!model.pieces.empty(), "no pieces");
  return model;
}

}  // namespace

CharacterMap::CharacterMap(std::string_view blob) {
  static_assert(std::endian::native == std::endian::little, "model files are little-endian");
  if (blob.empty()) return;
  uint32_t trie_bytes = 0;
  VGGFLOW_CHECK(blob.size() >= sizeof trie_bytes, "a character map of {} bytes", blob.size());
  std::memcpy(&trie_bytes, blob.data(), sizeof trie_bytes);
  blob.remove_prefix(sizeof trie_bytes);
  VGGFLOW_CHECK(trie_bytes % 4 == 0 && trie_bytes <= blob.size(),
                "a trie of {} bytes where {} are left", trie_bytes, blob.size());
  units_.resize(trie_bytes / 4);
  if (trie_bytes > 0) std::memcpy(units_.data(), blob.data(), trie_bytes);  // else data() is null
  replacements_ = blob.substr(trie_bytes);
  VGGFLOW_CHECK(replacements_.empty() || replacements_.back() == '\0',
                "replacements without a zero at their end");
}

// A unit holds its label in the low byte, a leaf flag in bit 8 and the offset of its children
// above; a leaf's value has the top bit.
std::optional<std::string_view> CharacterMap::find(std::string_view bytes) const {
  const auto unit_at = [this](uint32_t i) { return i < units_.size() ? units_[i] : 0; };
  const auto offset = [](uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); };
  uint32_t node = offset(unit_at(0));
  for (const char c : bytes) {
    const auto label = static_cast<uint8_t>(c);
    if (label == 0) break;
    node ^= label;
    const uint32_t unit = unit_at(node);
    if ((unit & (1u << 31 | 0xFF)) != label) break;
    node ^= offset(unit);
    if (unit >> 8 & 1) {
      const uint32_t at = unit_at(node) & ~(1u << 31);
      if (at >= replacements_.size()) return std::nullopt;
      return std::string_view(replacements_.c_str() + at);
    }
  }
  return std::nullopt;
}

SentencePieceModel SentencePieceModel::read(const std::filesystem::path& file) {
  const std::string bytes = read_tokenizer_file(file);
  try {
    return parse(bytes);
  } catch (const Error& e) {
    fail(
        "[t5_tokenizer] expected a sentencepiece unigram model in {}, found {}: copy the file "
        "again",
        file.string(), e.what());
  }
}

}  // namespace vggflow
