#pragma once
// What a caller holds of an object: a number dressed as a pointer, which is looked up and never
// followed. A handle that was closed, or never was one, is an error and no crash.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "vggflow/core/error.h"

namespace vggflow::c_api {

template <class Handle, class Object>
class Handles {
 public:
  explicit Handles(std::string name) : name_(std::move(name)) {}

  Handle* add(std::unique_ptr<Object> object) {
    open_.emplace(++last_, std::move(object));
    return reinterpret_cast<Handle*>(last_);
  }
  const Object& at(const Handle* handle) const {
    const auto found = open_.find(number(handle));
    VGGFLOW_CHECK(found != open_.end(), "[{}] expected an open {}, got {}", name_, name_,
                  handle ? "one that was closed" : "NULL");
    return *found->second;
  }
  void close(const Handle* handle) { open_.erase(number(handle)); }

 private:
  static std::uintptr_t number(const Handle* handle) {
    return reinterpret_cast<std::uintptr_t>(handle);
  }
  std::string name_;
  std::uintptr_t last_ = 0;
  std::map<std::uintptr_t, std::unique_ptr<Object>> open_;
};

}  // namespace vggflow::c_api
