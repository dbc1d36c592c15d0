#pragma once

#include <string>

namespace CLI {
class App;
}  // namespace CLI

namespace cli {

/// The manual page lapidary(1) in roff, made of what `app` declares.
std::string manual_page(const CLI::App& app);

/// A completion script for "bash", "zsh" or "fish", made of what `app` declares.
std::string completion_script(const CLI::App& app, const std::string& shell);

}  // namespace cli
