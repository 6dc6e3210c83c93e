#include "vggflow/io/torch_pickle.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/io/zip.h"

namespace vggflow {
namespace {

constexpr uint64_t kMaxProgram =
    16u
    << 20;  // bytes of data.pkl, each of which may cost 60 of memory; that of SD3 has about 0.3 MB
constexpr int kDeepestDictionary = 32;
constexpr size_t kLongestName = 1024;

// ---- values
// ----------------------------------------------------------------------------------------------------------

struct Value;
using Ref = const Value*;

struct None {};
struct Mark {};
struct Global {
  std::string name;  // "collections.OrderedDict"
};
struct Sequence {
  std::vector<Ref> items;  // a tuple or a list
};
struct Dictionary {
  std::vector<std::pair<Ref, Ref>> items;
};
struct Storage {
  Tensor data;  // all of it, one-dimensional
};
struct Value {
  std::variant<None, Mark, bool, int64_t, double, std::string, Global, Sequence, Dictionary,
               Storage, Tensor>
      is;
};

const char* kind_of(Ref v) {
  static constexpr const char* kNames[] = {
      "None",     "a mark",          "a bool",       "an integer", "a float", "a string",
      "a global", "a tuple or list", "a dictionary", "a storage",  "a tensor"};
  return kNames[v->is.index()];
}

const std::map<std::string, at::ScalarType>& storage_types() {
  static const std::map<std::string, at::ScalarType> types{
      {"torch.DoubleStorage", at::kDouble}, {"torch.FloatStorage", at::kFloat},
      {"torch.HalfStorage", at::kHalf},     {"torch.BFloat16Storage", at::kBFloat16},
      {"torch.LongStorage", at::kLong},     {"torch.IntStorage", at::kInt},
      {"torch.ShortStorage", at::kShort},   {"torch.CharStorage", at::kChar},
      {"torch.ByteStorage", at::kByte},     {"torch.BoolStorage", at::kBool}};
  return types;
}

constexpr const char* kOrderedDict = "collections.OrderedDict";
constexpr const char* kRebuildTensor = "torch._utils._rebuild_tensor_v2";
constexpr const char* kRebuildParameter = "torch._utils._rebuild_parameter";

// The instructions that exist and are refused, for the message.
const char* refused_name(uint8_t code) {
  static const std::map<uint8_t, const char*> names{{'0', "POP"},
                                                    {'1', "POP_MARK"},
                                                    {'2', "DUP"},
                                                    {'F', "FLOAT"},
                                                    {'I', "INT"},
                                                    {'L', "LONG"},
                                                    {'P', "PERSID"},
                                                    {'S', "STRING"},
                                                    {'T', "BINSTRING"},
                                                    {'U', "SHORT_BINSTRING"},
                                                    {'V', "UNICODE"},
                                                    {'d', "DICT"},
                                                    {'g', "GET"},
                                                    {'i', "INST"},
                                                    {'l', "LIST"},
                                                    {'o', "OBJ"},
                                                    {'p', "PUT"},
                                                    {'B', "BINBYTES"},
                                                    {'C', "SHORT_BINBYTES"},
                                                    {0x81, "NEWOBJ"},
                                                    {0x82, "EXT1"},
                                                    {0x83, "EXT2"},
                                                    {0x84, "EXT4"},
                                                    {0x8b, "LONG4"},
                                                    {0x8e, "BINBYTES8"},
                                                    {0x8f, "EMPTY_SET"},
                                                    {0x90, "ADDITEMS"},
                                                    {0x91, "FROZENSET"},
                                                    {0x92, "NEWOBJ_EX"},
                                                    {0x96, "BYTEARRAY8"},
                                                    {0x97, "NEXT_BUFFER"},
                                                    {0x98, "READONLY_BUFFER"}};
  const auto found = names.find(code);
  return found == names.end() ? "unknown" : found->second;
}

// ---- the machine
// -----------------------------------------------------------------------------------------------------

/// Runs one data.pkl. Values live in one arena until the machine is gone, so cycles cannot leak and
/// nothing is freed recursively.
class Machine {
 public:
  Machine(const ZipFile& zip, std::string prefix, std::shared_ptr<const MappedFile> bytes,
          std::string_view program)
      : zip_(zip), prefix_(std::move(prefix)), bytes_(std::move(bytes)), program_(program) {}

  /// The value that STOP leaves.
  Ref run() {
    for (;;) {
      const uint8_t code = number<uint8_t>();
      if (code == '.') return pop();
      step(code);
    }
  }

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail("[torch_pickle] {}: {}", bytes_->name(), fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  void step(uint8_t code);
  void step_container(uint8_t code);

  // ---- reading
  std::string_view take(uint64_t size) {
    if (size > program_.size() - at_)
      refuse("the program ends in the middle of an instruction at byte {}", at_);
    const std::string_view out = program_.substr(at_, size);
    at_ += size;
    return out;
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string line() {
    const size_t end = program_.find('\n', at_);
    if (end == std::string_view::npos)
      refuse("the program ends in the middle of an instruction at byte {}", at_);
    const std::string out(take(end - at_));
    ++at_;
    return out;
  }
  int64_t long_number(uint64_t size) {
    if (size > 8) refuse("an integer of {} bytes", size);
    const std::string_view bytes = take(size);
    uint64_t value =
        size > 0 && (bytes.back() & 0x80) ? ~uint64_t{0} : 0;  // two's complement, little-endian
    for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
    return static_cast<int64_t>(value);
  }
  double big_endian_double() {
    const uint64_t bits = __builtin_bswap64(number<uint64_t>());
    double value;
    std::memcpy(&value, &bits, 8);
    return value;
  }

  // ---- stack and memo
  template <class T>
  void push(T value) {
    arena_.push_back({std::move(value)});
    stack_.push_back(&arena_.back());
  }
  Ref pop() {
    if (stack_.empty()) refuse("it takes more values than it made, at byte {}", at_);
    Value* top = stack_.back();
    stack_.pop_back();
    if (std::holds_alternative<Mark>(top->is))
      refuse("a mark where a value is expected, at byte {}", at_);
    return top;
  }
  Value* top() {
    if (stack_.empty()) refuse("it takes more values than it made, at byte {}", at_);
    return stack_.back();
  }
  std::vector<Ref> pop_to_mark() {
    std::vector<Ref> items;
    while (!std::holds_alternative<Mark>(top()->is)) items.push_back(pop());
    stack_.pop_back();
    return {items.rbegin(), items.rend()};
  }
  std::vector<Ref> pop_many(size_t count) {
    std::vector<Ref> items(count);
    while (count-- > 0) items[count] = pop();
    return items;
  }
  void remember(uint64_t index) { memo_[index] = top(); }
  void recall(uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) refuse("it recalls memo {}, which was never stored", index);
    stack_.push_back(found->second);
  }

  // ---- what values must be
  template <class T>
  const T& as(Ref v, const char* expected) const {
    const T* out = std::get_if<T>(&v->is);
    if (!out) refuse("expected {}, got {}", expected, kind_of(v));
    return *out;
  }
  Dictionary& top_dictionary() {
    Value* v = top();
    if (!std::holds_alternative<Dictionary>(v->is))
      refuse("items are set in {}, expected a dictionary", kind_of(v));
    return std::get<Dictionary>(v->is);
  }
  Sequence& top_list() {
    Value* v = top();
    if (!std::holds_alternative<Sequence>(v->is))
      refuse("items are appended to {}, expected a list", kind_of(v));
    return std::get<Sequence>(v->is);
  }

  // ---- what is built
  void push_global(const std::string& module, const std::string& name) {
    const std::string full = module + "." + name;
    if (full != kOrderedDict && full != kRebuildTensor && full != kRebuildParameter &&
        !storage_types().contains(full)) {
      refuse(
          "it asks for '{}', which is not allowed: only tensors in dictionaries are read. Save the "
          "state_dict alone",
          full.substr(0, 100));
    }
    push(Global{full});
  }
  void reduce();
  void push_storage(Ref id);
  Tensor rebuild_tensor(const std::vector<Ref>& args) const;
  std::vector<int64_t> counts(Ref v, const char* what) const;

  const ZipFile& zip_;
  std::string prefix_;
  std::shared_ptr<const MappedFile> bytes_;
  std::string_view program_;
  uint64_t at_ = 0;
  std::deque<Value> arena_;
  std::vector<Value*> stack_;
  std::unordered_map<uint64_t, Value*> memo_;
  std::map<std::pair<std::string, at::ScalarType>, Tensor> storages_;
};

void Machine::step(uint8_t code) {
  switch (code) {
    case 0x80: {  // PROTO
      const auto version = number<uint8_t>();
      if (version < 2 || version > 5) refuse("pickle protocol {}, expected 2 to 5", version);
      return;
    }
    case 0x95:
      number<uint64_t>();
      return;  // FRAME: a hint for buffering
    case 'N':
      return push(None{});
    case 0x88:
      return push(true);
    case 0x89:
      return push(false);
    case 'K':
      return push(int64_t{number<uint8_t>()});
    case 'M':
      return push(int64_t{number<uint16_t>()});
    case 'J':
      return push(int64_t{number<int32_t>()});
    case 0x8a:
      return push(long_number(number<uint8_t>()));  // LONG1
    case 'G':
      return push(big_endian_double());
    case 'X':
      return push(std::string(take(number<uint32_t>())));
    case 0x8c:
      return push(std::string(take(number<uint8_t>())));
    case 0x8d:
      return push(std::string(take(number<uint64_t>())));
    case 'q':
      return remember(number<uint8_t>());
    case 'r':
      return remember(number<uint32_t>());
    case 0x94:
      return remember(memo_.size());  // MEMOIZE
    case 'h':
      return recall(number<uint8_t>());
    case 'j':
      return recall(number<uint32_t>());
    case 'c': {  // GLOBAL
      const std::string module = line();
      return push_global(module, line());
    }
    case 0x93: {  // STACK_GLOBAL
      const std::string name = as<std::string>(pop(), "the name of a global"),
                        module = as<std::string>(pop(), "the module of a global");
      return push_global(module, name);
    }
    case 'R':
      return reduce();
    case 'Q':
      return push_storage(pop());  // BINPERSID
    default:
      return step_container(code);
  }
}

void Machine::step_container(uint8_t code) {
  switch (code) {
    case '(':
      return push(Mark{});
    case ')':
      return push(Sequence{});
    case ']':
      return push(Sequence{});
    case '}':
      return push(Dictionary{});
    case 't':
      return push(Sequence{pop_to_mark()});
    case 0x85:
      return push(Sequence{pop_many(1)});
    case 0x86:
      return push(Sequence{pop_many(2)});
    case 0x87:
      return push(Sequence{pop_many(3)});
    case 'a': {  // APPEND
      Ref item = pop();
      top_list().items.push_back(item);
      return;
    }
    case 'e': {  // APPENDS
      const auto items = pop_to_mark();
      auto& list = top_list().items;
      list.insert(list.end(), items.begin(), items.end());
      return;
    }
    case 's': {  // SETITEM
      const auto pair = pop_many(2);
      top_dictionary().items.emplace_back(pair[0], pair[1]);
      return;
    }
    case 'u': {  // SETITEMS
      const auto items = pop_to_mark();
      if (items.size() % 2 != 0) refuse("a key without a value, at byte {}", at_);
      auto& pairs = top_dictionary().items;
      for (size_t i = 0; i < items.size(); i += 2) pairs.emplace_back(items[i], items[i + 1]);
      return;
    }
    case 'b': {  // BUILD: attributes of an OrderedDict, which a state_dict's _metadata is
      as<Dictionary>(pop(), "a dictionary of attributes");
      top_dictionary();
      return;
    }
    default:
      refuse(
          "the instruction {} (0x{:02x}) at byte {} is not allowed: only tensors in dictionaries "
          "are read. Save the state_dict alone",
          refused_name(code), code, at_ - 1);
  }
}

void Machine::reduce() {
  const auto& args = as<Sequence>(pop(), "a tuple of arguments").items;
  const std::string& name = as<Global>(pop(), "something to call").name;
  if (name == kOrderedDict) {
    if (!args.empty()) refuse("OrderedDict with {} arguments, expected none", args.size());
    return push(Dictionary{});
  }
  if (name == kRebuildTensor) return push(rebuild_tensor(args));
  if (name != kRebuildParameter) refuse("it calls '{}', which is a type of storage", name);
  if (args.size() != 3) refuse("_rebuild_parameter with {} arguments, expected 3", args.size());
  push(as<Tensor>(args[0], "the tensor of a parameter"));
}

// ('storage', type, key, location, numel)
void Machine::push_storage(Ref id) {
  const auto& parts = as<Sequence>(id, "a tuple as persistent id").items;
  if (parts.size() != 5 || as<std::string>(parts[0], "the word 'storage'") != "storage") {
    refuse("a persistent id that is not ('storage', type, key, location, numel)");
  }
  const std::string& type = as<Global>(parts[1], "a type of storage").name;
  const auto found = storage_types().find(type);
  if (found == storage_types().end()) refuse("'{}' is not a type of storage", type);
  const std::string& key = as<std::string>(parts[2], "the key of a storage");
  const int64_t numel = as<int64_t>(parts[4], "the size of a storage");
  const auto entry = zip_.entries().find(prefix_ + "data/" + key);
  if (entry == zip_.entries().end())
    refuse("storage '{}' has no entry {}data/{}", key, prefix_, key);
  const uint64_t held = entry->second.size, element = c10::elementSize(found->second);
  if (numel < 0 || static_cast<uint64_t>(numel) > held / element ||
      static_cast<uint64_t>(numel) * element != held) {
    refuse("storage '{}' claims {} elements of {} bytes, but its entry has {} bytes", key, numel,
           element, held);
  }
  // One tensor an entry and type: where the bytes are not aligned it is a copy, and many tensors
  // may share it.
  Tensor& data = storages_[{key, found->second}];
  if (!data.defined()) {
    const std::string_view content = zip_.content(entry->first);
    if (found->second == at::kBool && !are_bools(content.data(), held)) {
      refuse("storage '{}' is of bools, but holds bytes other than 0 and 1", key);
    }
    data = view_of(bytes_, entry->second.offset, {numel}, found->second);
  }
  push(Storage{data});
}

std::vector<int64_t> Machine::counts(Ref v, const char* what) const {
  std::vector<int64_t> out;
  for (Ref item : as<Sequence>(v, what).items) {
    out.push_back(as<int64_t>(item, what));
    if (out.back() < 0) refuse("a negative number ({}) as {}", out.back(), what);
  }
  return out;
}

// (storage, offset, size, stride, requires_grad, hooks[, metadata])
Tensor Machine::rebuild_tensor(const std::vector<Ref>& args) const {
  if (args.size() != 6 && args.size() != 7)
    refuse("_rebuild_tensor_v2 with {} arguments, expected 6 or 7", args.size());
  const Tensor& storage = as<Storage>(args[0], "the storage of a tensor").data;
  const int64_t offset = as<int64_t>(args[1], "the offset of a tensor");
  const auto size = counts(args[2], "the size of a tensor"),
             stride = counts(args[3], "the stride of a tensor");
  if (size.size() != stride.size() || size.size() > 16)
    refuse("a tensor of {} sizes and {} strides", size.size(), stride.size());
  // The last element's place, and the number of elements, must both be numbers.
  int64_t last = offset, numel = 1, empty = 0;
  bool overflow = offset < 0;
  for (size_t i = 0; i < size.size(); ++i) {
    int64_t reach = 0;
    empty += size[i] == 0;
    overflow |= __builtin_mul_overflow(std::max<int64_t>(0, size[i] - 1), stride[i], &reach) ||
                __builtin_add_overflow(last, reach, &last);
    overflow |= __builtin_mul_overflow(numel, std::max<int64_t>(1, size[i]), &numel) ||
                numel > (int64_t{1} << 48);
  }
  if (overflow || (empty == 0 && last >= storage.numel()) ||
      (empty > 0 && offset > storage.numel())) {
    refuse("a tensor of size ({}) and stride ({}) at {} reaches beyond its storage of {} elements",
           fmt::join(size, ", "), fmt::join(stride, ", "), offset, storage.numel());
  }
  return empty > 0 ? at::empty(size, storage.scalar_type())
                   : storage.as_strided(size, stride, offset);
}

// ---- from values to names
// --------------------------------------------------------------------------------------------

class Collector {
 public:
  explicit Collector(const Machine& machine) : machine_(machine) {}

  void collect(const Dictionary& dictionary, const std::string& prefix, int depth) {
    if (depth > kDeepestDictionary)
      machine_.refuse("dictionaries nested more than {} deep", kDeepestDictionary);
    if (!seen_.insert(&dictionary).second)
      machine_.refuse("the dictionary at '{}' comes twice or holds itself", prefix);
    for (const auto& [key, value] : dictionary.items) {
      const std::string name = prefix + key_text(key);
      if (name.size() > kLongestName)
        machine_.refuse("a name of {} bytes, expected at most {}", name.size(), kLongestName);
      if (const auto* inner = std::get_if<Dictionary>(&value->is))
        collect(*inner, name + ".", depth + 1);
      const auto* tensor = std::get_if<Tensor>(&value->is);
      if (!tensor) continue;
      if (!names_.insert(name).second) machine_.refuse("'{}' comes twice", name);
      out.emplace_back(name, *tensor);
    }
  }

  TensorList out;

 private:
  std::string key_text(Ref key) const {
    if (const auto* text = std::get_if<std::string>(&key->is)) return *text;
    if (const auto* index = std::get_if<int64_t>(&key->is)) return std::to_string(*index);
    machine_.refuse("expected strings or integers as keys, got {}", kind_of(key));
  }
  const Machine& machine_;
  std::set<const Dictionary*> seen_;
  std::set<std::string> names_;
};

// Files of torch.save before 1.6 are a plain pickle that begins with this number.
bool is_legacy(const MappedFile& file) {
  constexpr std::string_view kMagic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 14);
  return file.size() >= kMagic.size() && std::string_view(file.data(), kMagic.size()) == kMagic;
}

std::string find_prefix(const ZipFile& zip, const std::string& file) {
  constexpr std::string_view kProgram = "data.pkl";
  std::vector<std::string> found;
  for (const auto& [name, entry] : zip.entries()) {
    if (name == kProgram || name.ends_with("/data.pkl"))
      found.push_back(name.substr(0, name.size() - kProgram.size()));
  }
  VGGFLOW_CHECK(found.size() == 1,
                "[torch_pickle] {}: expected one data.pkl in the archive, found {}; is it a file "
                "of torch.save?",
                file, found.size());
  return found[0];
}

}  // namespace

TensorList read_torch_pickle(const std::shared_ptr<const MappedFile>& bytes) {
  const std::string& file = bytes->name();
  VGGFLOW_CHECK(!is_legacy(*bytes),
                "[torch_pickle] {} has the format of PyTorch before 1.6; load and save it again "
                "with a newer torch.save",
                file);
  const ZipFile zip(bytes);
  const std::string prefix = find_prefix(zip, file);
  const std::string_view order =
      zip.entries().contains(prefix + "byteorder") ? zip.content(prefix + "byteorder") : "little";
  VGGFLOW_CHECK(order == "little", "[torch_pickle] {}: byte order '{}', expected 'little'", file,
                order);
  const uint64_t size = zip.entries().at(prefix + "data.pkl").size;
  VGGFLOW_CHECK(size <= kMaxProgram,
                "[torch_pickle] {}: data.pkl has {} bytes, expected at most {}", file, size,
                kMaxProgram);
  Machine machine(zip, prefix, bytes, zip.content(prefix + "data.pkl"));
  const Ref root = machine.run();
  const auto* dictionary = std::get_if<Dictionary>(&root->is);
  if (!dictionary) machine.refuse("expected a dictionary of tensors, got {}", kind_of(root));
  Collector collector(machine);
  collector.collect(*dictionary, "", 0);
  return std::move(collector.out);
}

TensorList read_torch_pickle(const std::filesystem::path& file) {
  return read_torch_pickle(MappedFile::open(file, "torch_pickle"));
}

}  // namespace vggflow
