#pragma once
// An environment variable that has a value for the length of a test.

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

namespace vggflow::testing {

class Variable {
 public:
  Variable(std::string name, const std::string& value) : name_(std::move(name)) {
    if (const char* now = std::getenv(name_.c_str())) before_ = now;
    ::setenv(name_.c_str(), value.c_str(), 1);
  }
  ~Variable() {
    before_ ? ::setenv(name_.c_str(), before_->c_str(), 1) : ::unsetenv(name_.c_str());
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  std::string name_;
  std::optional<std::string> before_;
};

}  // namespace vggflow::testing
