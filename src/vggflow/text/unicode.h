#pragma once
// The little of Unicode that the tokenizers of SD3 and BERT need, equal to what Hugging Face's
// tokenizers library 0.23.3 does (its tables are read off it by tools/unicode_tables.py).

#include <string>
#include <string_view>

namespace vggflow::unicode {

/// Code points of UTF-8 bytes. What is not UTF-8 becomes U+FFFD, one for each longest prefix of a
/// valid sequence, as Python's bytes.decode(errors="replace") does.
std::u32string decode(std::string_view bytes);
std::string encode(std::u32string_view text);

bool is_letter(char32_t c);  ///< general category L*
bool is_number(char32_t c);  ///< general category N*
bool is_space(char32_t c);   ///< property White_Space

bool is_bert_dropped(char32_t c);  ///< controls, formats, private use: BERT reads over them
bool is_bert_accent(char32_t c);   ///< non-spacing marks, dropped from decomposed text
bool is_bert_ideograph(
    char32_t c);  ///< a word of its own: Chinese characters, neither kana nor hangul
bool is_bert_punctuation(
    char32_t c);  ///< a word of its own: general category P* and ASCII's other signs

/// Lower case character by character, without context (so a final sigma stays the inner one).
std::u32string lower(std::u32string_view text);

/// Normalization form C: canonical decomposition, sorting of marks by combining class, composition.
std::u32string nfc(std::u32string_view text);

/// Normalization form D: the first two steps of form C.
std::u32string nfd(std::u32string_view text);

/// End of the extended grapheme cluster (UAX 29) that begins at `begin`.
size_t grapheme_end(std::u32string_view text, size_t begin);

}  // namespace vggflow::unicode
