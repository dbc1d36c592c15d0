// host PLUGIN MODEL PROMPT: loads PLUGIN, has it complete PROMPT and fail, closes it, and all of it
// once more.

#include <dlfcn.h>

#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#if USES_LAPIDARY
#include <lapidary/lapidary.h>
#endif

namespace {

std::string use(const char* path, const char* model, const char* prompt) {
  void* plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (plugin == nullptr) throw std::runtime_error(dlerror());
  const auto complete = reinterpret_cast<void (*)(const char*, const char*, char*, std::size_t)>(
      dlsym(plugin, "plugin_complete"));
  const auto fail = reinterpret_cast<void (*)()>(dlsym(plugin, "plugin_fail"));
  if (complete == nullptr || fail == nullptr)
    throw std::runtime_error("the plugin lacks a function");
  char text[256] = {};
  complete(model, prompt, text, sizeof text);
  std::string caught = "nothing";
  try {
    fail();
#if USES_LAPIDARY
  } catch (const lapidary::Error& error) {
    caught = error.code() == lapidary::ErrorCode::kFile ? "right" : "another code";
#else
  } catch (const std::runtime_error& error) {
    caught = "right";
#endif
  } catch (const std::exception& error) {
    caught = "something else";
  }
  if (caught != "right") throw std::runtime_error("of the plugin's error was caught: " + caught);
  dlclose(plugin);
  return text;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::cerr << "usage: host PLUGIN MODEL PROMPT\n";
    return 2;
  }
#if USES_LAPIDARY
  lapidary::inspect(argv[2]);
#endif
  const std::string first = use(argv[1], argv[2], argv[3]);
  const std::string second = use(argv[1], argv[2], argv[3]);
  if (first.empty() || first != second)
    throw std::runtime_error("'" + first + "', then '" + second + "'");
  std::cout << first << '\n';
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
