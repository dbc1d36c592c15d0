#pragma once

// Everything a program needs:
//
//   lapidary::Model model = lapidary::Model::load("gemma-3-1b-it-q4_0.gguf");
//   lapidary::Session chat(model, {.context = 8192});
//   chat.add_user("Name three gems.");
//   for (std::string_view piece : chat.reply({.max_tokens = 256})) {
//     std::cout << piece << std::flush;
//   }

#include "lapidary/engine.h"         // IWYU pragma: export
#include "lapidary/error.h"          // IWYU pragma: export
#include "lapidary/export.h"         // IWYU pragma: export
#include "lapidary/image.h"          // IWYU pragma: export
#include "lapidary/image_encoder.h"  // IWYU pragma: export
#include "lapidary/machine.h"        // IWYU pragma: export
#include "lapidary/model.h"          // IWYU pragma: export
#include "lapidary/prompt.h"         // IWYU pragma: export
#include "lapidary/sampling.h"       // IWYU pragma: export
#include "lapidary/scheduler.h"      // IWYU pragma: export
#include "lapidary/score.h"          // IWYU pragma: export
#include "lapidary/session.h"        // IWYU pragma: export
#include "lapidary/stats.h"          // IWYU pragma: export
#include "lapidary/tokenizer.h"      // IWYU pragma: export
#include "lapidary/utf8.h"           // IWYU pragma: export
