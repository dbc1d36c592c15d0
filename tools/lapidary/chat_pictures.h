#pragma once

#include <optional>
#include <string>
#include <vector>

#include "conversation.h"
#include "pictures.h"

namespace cli {

/// The pictures that go in front of the next message of a conversation. What is encoded stays so
/// when the message is taken back.
class WaitingPictures {
 public:
  /// `held_bytes`: of the session; `beside`: of a draft model. Both count for the memory limit.
  WaitingPictures(const lapidary::Model& model, const ModelFlags& flags, const ImageFlags& images,
                  std::uint64_t held_bytes, std::uint64_t beside);

  /// Returns its description. Throws Error(kUsage) when the model has no vision file.
  std::string add(Picture picture);

  /// All of the files or, when one is bad (Error(kFile)), none. Returns their descriptions.
  std::vector<std::string> add(const std::vector<std::string>& paths);

  /// Puts the pictures of a message that was taken back in front.
  void put_back(const std::vector<UserPicture>& pictures);

  /// Those that encode() has not seen have features without values.
  std::vector<UserPicture> pictures() const;

  /// See PictureEncoder for what it throws; the pictures wait then as before.
  void encode();

  bool empty() const { return waiting_.empty(); }
  void clear() { waiting_.clear(); }
  std::vector<std::string> describe() const;

 private:
  struct Waiting {
    UserPicture shown;
    std::optional<Picture> source;  // Until it is encoded.
  };

  lapidary::Model model_;
  ImageFlags flags_;
  std::uint64_t memory_;  // For decoded pictures; 0: no limit.
  PictureEncoder encoder_;
  std::vector<Waiting> waiting_;
};

/// File names as a shell reads them: apart by blanks, which quotes or a backslash keep together. A
/// text that is the name of a file as it stands is that one name.
std::vector<std::string> split_file_names(const std::string& text);

}  // namespace cli
