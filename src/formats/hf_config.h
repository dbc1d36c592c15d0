#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "formats/hf_folder.h"
#include "formats/weight_source.h"

namespace lapidary {

/// What the texts of a folder say of a model, in the engine's keys: config.json with the defaults
/// that released ones leave out, generation_config.json, the settings of pictures, the chat
/// template. Not the vocabulary. Immutable.
class HfConfig {
 public:
  /// Reads and translates what `content` asks for; of a vocabulary alone, config.json may be
  /// missing and of any model. Throws Error(kFile): one line that names the file and the key.
  HfConfig(const HfFolder& folder, Content content);

  // As WeightSource has them. The name of a key that no file of a folder has is empty.
  std::optional<std::uint64_t> find_uint(Key key) const;
  std::optional<double> find_float(Key key) const;
  std::optional<std::string> find_string(Key key) const;
  std::optional<PagedVector<double>> find_floats(Key key) const;
  std::optional<PagedVector<std::int64_t>> find_ints(Key key) const;
  std::optional<ArraySize> array_size(Key key) const;
  std::string name(Key key) const;
  std::string where(Key key) const;

  /// What tie_word_embeddings says: whether the embedding is the head as well.
  bool tied() const { return tied_; }

  /// All of config.json, for people: keys joined by dots, and values on one printable line.
  static FileInfo list(const HfFolder& folder);

 private:
  /// A value, and where it stands; null: the file leaves it out.
  struct Value {
    std::string file;
    std::string name;
    Json value;
  };
  const Value* find(Key key) const;
  [[noreturn]] void fail(const Value& value, const std::string& expected) const;

  // A member of `object`, called `name` there; what `section` is called in front of it.
  struct Section {
    const Json* object;
    std::string prefix;
  };
  Value take(const Section& section, const char* name, Json fallback = nullptr) const;
  void refuse_unless(const Section& section, const char* name, const Json& only,
                     const std::string& why) const;
  void read_text(const Json& config);
  void read_layers(const Section& text);
  void read_rope(const Section& text);
  void read_vision(const Json& config);
  void read_pool(const Json& config, const Section& vision);
  void read_stops(const Json& config);
  void read_template();
  Section section(const Json& config, const char* name) const;

  const HfFolder& folder_;
  std::map<Key, Value> values_;
  bool tied_ = true;
  bool has_vision_ = false;
};

}  // namespace lapidary
