#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "batch_answer.h"
#include "chat_flag.h"
#include "request_file.h"
#include "speculation_flags.h"

namespace cli {

struct BatchOptions {
  ModelFlags model;
  SamplingFlags sampling;
  ChatFlag chat;
  SpeculationFlags speculation;
  ImageFlags images;
  std::string in;
  std::string out;
  std::string image_root;
  bool retry_failed = false;
};

/// A line of a file of requests, read and not answered.
struct BatchItem {
  BatchRequest request;
  std::optional<RequestError> wrong;  ///< Why it cannot be answered.
  std::string digest;  ///< Of what decides its answer, the seed of the batch left out.
};

/// Answers requests with one session, one at a time.
class Answerer {
 public:
  /// `options` and `model` must outlive it.
  Answerer(const BatchOptions& options, const lapidary::Model& model);

  /// Bytes that a request may have.
  std::uint64_t most_line_bytes() const;

  /// The request that `requests` gave last, whose text is `line`.
  BatchItem read(const RequestFile& requests, const std::string& line) const;

  /// The line to write; `failed` tells whether it is an error. Throws Error(kInterrupted).
  std::string answer(const BatchItem& item, std::uint64_t seed, bool& failed);

  long drawn() const { return drawn_; }                        ///< Tokens of all lines.
  const lapidary::Usage& guesses() const { return guesses_; }  ///< Of all lines.

 private:
  std::vector<lapidary::ContentPart> read_parts(const std::vector<RequestPart>& parts,
                                                std::vector<Picture>& pictures) const;
  bool in_turns(const BatchRequest& request) const;
  std::string digest(const BatchRequest& request) const;
  lapidary::Prompt make_prompt(const BatchRequest& request, std::vector<Picture>& pictures) const;
  BatchAnswer compute(const BatchRequest& request, std::uint64_t seed);

  const BatchOptions& options_;
  const lapidary::Model& model_;
  lapidary::Session session_;
  PictureEncoder encoder_;
  std::uint64_t memory_;  // For requests and their pictures; 0: no limit.
  std::string folder_;    // Of the requests, from which names of pictures go out.
  bool chat_;
  std::string weights_;  // What decides answers beside the requests: of all,
  std::string turns_;    // of those in turns,
  std::string views_;    // of those with pictures.
  std::string name_;
  long drawn_ = 0;
  lapidary::Usage guesses_;
};

}  // namespace cli
