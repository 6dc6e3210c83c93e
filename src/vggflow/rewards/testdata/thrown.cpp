// What no function of a plug-in may do: throw. Called by failing_plugin.c.
#include <stdexcept>

extern "C" void throw_text() { throw std::runtime_error("the licence server is asleep"); }
extern "C" void throw_number() { throw 42; }
