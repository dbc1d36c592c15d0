#include "lapidary/scheduler.h"

#include <algorithm>
#include <list>
#include <optional>
#include <utility>

#include "base/boundary.h"
#include "base/exclusive.h"
#include "base/format.h"
#include "base/memory.h"
#include "runtime/log_probabilities.h"
#include "runtime/model_impl.h"
#include "runtime/prompt_images.h"
#include "runtime/running_answer.h"

namespace lapidary {

namespace {

constexpr int kMostParallel = 1024;
constexpr int kDefaultParallel = 64;  // More gain little: docs/performance.md.
constexpr int kMostAnswers = 128;
/// So many positions in common are worth waiting for.
constexpr std::size_t kWorthSharing = 32;
/// A request is overtaken by as many others at most, for the sake of what they share.
constexpr int kMostOvertaken = 64;
/// From so many rows on, all logits of all rows are cheaper than a search for the best of each.
constexpr std::size_t kFullHeadRows = 3;

std::size_t common_ids(const Prompt& a, const Prompt& b) {
  const auto [end, other] = std::ranges::mismatch(a.ids, b.ids);
  return static_cast<std::size_t>(end - a.ids.begin());
}

}  // namespace

class Scheduler::Impl {
 public:
  Impl(std::shared_ptr<EngineCore> engine, const SchedulerOptions& options);

  std::uint64_t add(Request request);
  std::vector<Answer> step();

  std::size_t waiting() const;
  std::size_t running() const { return running_.size() + waiting_.size() - waiting(); }
  int parallel() const { return parallel_; }

  static constexpr const char* kName = "the scheduler";
  Exclusive exclusive;

 private:
  struct Waiting {
    std::shared_ptr<const QueuedRequest> request;
    int index;
    int overtaken = 0;
    const Prompt& prompt() const { return request->request.prompt; }
  };

  std::vector<Answer> compute_step();
  std::int64_t most_pages() const { return engine_->plan.pages - engine_->plan.passing_pages; }
  SessionPlan plan_of(const Request& request) const;
  void check(const Request& request) const;
  void admit();
  std::list<Waiting>::iterator next_waiting();
  void begin_prompts();
  bool waits_for_another(const RunningAnswer& answer) const;
  int keep_at(const Prompt& prompt) const;
  void compute();
  void use_rows();
  void draw();
  void draw_alone(RunningAnswer& answer);
  void draw_rows(std::span<RunningAnswer* const> answers);
  std::vector<Answer> collect();

  const std::shared_ptr<EngineCore> engine_;
  int parallel_;
  std::uint64_t next_ = 0;
  std::list<Waiting> waiting_;
  std::list<RunningAnswer> running_;  // In the order in which they were admitted.
  std::vector<Piece> pieces_;
  std::vector<RunningAnswer*> computed_;  // The answers of pieces_.
  std::vector<HiddenRow> rows_;
  std::shared_ptr<const QueuedRequest> last_;  // Admitted.
};

Scheduler::Impl::Impl(std::shared_ptr<EngineCore> engine, const SchedulerOptions& options)
    : engine_(std::move(engine)), parallel_(options.parallel) {
  if (parallel_ < 0 || parallel_ > kMostParallel) {
    throw Error(ErrorCode::kUsage,
                format("parallel must be 0 to {}, not {}", kMostParallel, parallel_));
  }
  if (parallel_ == 0) parallel_ = kDefaultParallel;
  parallel_ = std::min(parallel_, engine_->plan.pass);  // One token of each in a pass.
}

std::size_t Scheduler::Impl::waiting() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(waiting_, [](const Waiting& entry) { return entry.index == 0; }));
}

/// As much context as the answer can fill; for continuations, the pages of as many of them as fit
/// into a pass, as far as there are so many.
SessionPlan Scheduler::Impl::plan_of(const Request& request) const {
  const bool scores = !request.choices.empty();
  const int tokens = scores ? 0 : request.options.max_tokens;
  const std::int64_t most = tokens < 0
                                ? engine_->plan.context
                                : static_cast<std::int64_t>(request.prompt.ids.size()) + tokens;
  const int context = static_cast<int>(std::clamp<std::int64_t>(most, 1, engine_->plan.context));
  const Config& config = engine_->model.impl().config;
  SessionPlan plan =
      plan_shared(config, engine_->plan,
                  {.context = context, .chunk = engine_->plan.pass, .snapshot_memory = 0});
  if (!scores) return plan;
  const Scoring::Pages pages = Scoring::pages(
      config, request.choices, static_cast<int>(request.prompt.ids.size()), engine_->plan.pass);
  plan.pages += std::max(pages.longest, std::min(pages.wanted, most_pages() - plan.pages));
  return plan;
}

void Scheduler::Impl::check(const Request& request) const {
  Generation::check(request.options);
  if (request.answers < 1 || request.answers > kMostAnswers) {
    throw Error(ErrorCode::kUsage,
                format("answers must be 1 to {}, not {}", kMostAnswers, request.answers));
  }
  const std::vector<TokenId>& ids = request.prompt.ids;
  if (ids.empty()) throw Error(ErrorCode::kUsage, "the prompt holds no token (at least <bos>)");
  Sequence::check_ids(engine_->model, ids);
  if (ids.size() > static_cast<std::size_t>(engine_->plan.context)) {
    throw Error(ErrorCode::kContext, format("the prompt has {} tokens, but the context holds {}",
                                            ids.size(), engine_->plan.context));
  }
  if (!request.choices.empty()) {
    if (request.answers != 1 || request.echo)
      throw Error(ErrorCode::kUsage, "choices are scored once, and without echo");
    Scoring::check(engine_->model, request.choices, ids.size(), engine_->plan.context);
  }
  std::vector<ImageRows> placed;
  place_images(engine_->model, ids, request.prompt.images, 0, placed);
  const std::int64_t pages = plan_of(request).pages;
  const std::int64_t most = most_pages();
  if (pages <= most) return;
  const std::uint64_t page = engine_->pool.page_bytes();
  throw Error(ErrorCode::kMemory,
              format("the prompt and its answer need {} of keys and values, but the engine has {}",
                     format_bytes(static_cast<std::uint64_t>(pages) * page),
                     format_bytes(static_cast<std::uint64_t>(most) * page)));
}

std::uint64_t Scheduler::Impl::add(Request request) {
  check(request);
  const int answers = request.answers;
  const auto queued =
      std::make_shared<const QueuedRequest>(QueuedRequest{next_, std::move(request)});
  for (int index = 0; index < answers; ++index) waiting_.push_back({queued, index});
  return next_++;
}

std::vector<Answer> Scheduler::Impl::step() {
  std::vector<Answer> answers = compute_step();
  // One place a pass, so that answers under way wait for no more; all where nobody waits.
  if (engine_->write_place() && running_.empty() && waiting_.empty()) engine_->write_places();
  return answers;
}

std::vector<Answer> Scheduler::Impl::compute_step() {
  admit();
  if (parallel_ == 1 && !running_.empty() && running_.front().in_answer()) {
    running_.front().step_alone();
    const Turn turn(*engine_);
    return collect();
  }
  const Turn turn(*engine_);
  begin_prompts();
  compute();
  draw();
  return collect();
}

/// Of those that wait, the one that has the most in common with what was admitted last; but none is
/// overtaken for ever.
std::list<Scheduler::Impl::Waiting>::iterator Scheduler::Impl::next_waiting() {
  auto best = waiting_.begin();
  if (last_ == nullptr || best->overtaken >= kMostOvertaken) return best;
  std::size_t most = common_ids(best->prompt(), last_->request.prompt);
  for (auto entry = std::next(best); entry != waiting_.end(); ++entry) {
    const std::size_t common = common_ids(entry->prompt(), last_->request.prompt);
    if (common < most + kWorthSharing) continue;
    most = common;
    best = entry;
  }
  return best;
}

/// Takes in as many as there are places and pages for.
void Scheduler::Impl::admit() {
  while (!waiting_.empty() && running_.size() < static_cast<std::size_t>(parallel_)) {
    const auto entry = next_waiting();
    const SessionPlan plan = plan_of(entry->request->request);
    const std::int64_t free = engine_->pool.capacity() - engine_->pool.promised();
    if (plan.pages > free && !running_.empty()) return;
    running_.emplace_back(engine_, plan, entry->request, entry->index);
    last_ = entry->request;
    for (auto passed = waiting_.begin(); passed != entry; ++passed) ++passed->overtaken;
    waiting_.erase(entry);
  }
}

/// Whether a prompt that is being computed will soon have more of `answer`'s than the engine has
/// now.
bool Scheduler::Impl::waits_for_another(const RunningAnswer& answer) const {
  return std::ranges::any_of(running_, [&](const RunningAnswer& other) {
    if (&other == &answer || !other.in_prompt()) return false;
    const std::size_t common = common_ids(other.prompt(), answer.prompt());
    const auto computed = static_cast<std::size_t>(other.sequence.computed);
    return computed + kWorthSharing <= std::min(common, other.prompt().ids.size());
  });
}

/// How much of `prompt` others have that wait: worth to be kept, since its own window moves on.
int Scheduler::Impl::keep_at(const Prompt& prompt) const {
  std::size_t most = 0;
  const auto look = [&](const Prompt& other) {
    if (&other != &prompt) most = std::max(most, common_ids(prompt, other));
  };
  for (const Waiting& entry : waiting_) look(entry.prompt());
  for (const RunningAnswer& other : running_) {
    if (!other.begun()) look(other.prompt());
  }
  return most >= kWorthSharing && most < prompt.ids.size() ? static_cast<int>(most) : 0;
}

void Scheduler::Impl::begin_prompts() {
  for (RunningAnswer& answer : running_) {
    if (answer.begun() || (!answer.echoes() && waits_for_another(answer))) continue;
    try {
      answer.begin(engine_->plan.reuse ? keep_at(answer.prompt()) : 0, parallel_ == 1);
    } catch (const Error& error) {
      answer.fail(error);
    }
  }
}

/// A pass: the drawn token of every answer, and what there is room for beside them: of
/// continuations first, then of prompts.
void Scheduler::Impl::compute() {
  pieces_.clear();
  computed_.clear();
  int room = engine_->plan.pass;
  const auto add = [&](RunningAnswer& answer) {
    const std::size_t first = pieces_.size();
    answer.add_pieces(room, pieces_);
    if (pieces_.size() > first) computed_.push_back(&answer);
    for (const Piece& piece : std::span(pieces_).subspan(first))
      room -= static_cast<int>(piece.ids.size());
  };
  for (RunningAnswer& answer : running_) {
    if (answer.wants_pass() && !answer.in_prompt() && !answer.scores()) add(answer);
  }
  for (RunningAnswer& answer : running_) {
    if (room > 0 && answer.wants_pass() && !answer.in_prompt() && answer.scores()) add(answer);
  }
  for (RunningAnswer& answer : running_) {
    if (room > 0 && answer.wants_pass() && answer.in_prompt()) add(answer);
  }
  if (pieces_.empty()) return;
  engine_->forward(pieces_, nullptr);
  int row = 0;
  for (RunningAnswer* answer : computed_) row += answer->end_pass(row);
  use_rows();
}

/// The rows of all prompts and continuations whose log-probabilities are wanted, in few products.
void Scheduler::Impl::use_rows() {
  std::vector<const float*> rows;
  std::vector<std::pair<RunningAnswer*, std::size_t>> places;
  for (RunningAnswer* answer : computed_) {
    const std::span<const float* const> own = answer->rows();
    rows.insert(rows.end(), own.begin(), own.end());
    for (std::size_t i = 0; i < own.size(); ++i) places.emplace_back(answer, i);
  }
  std::vector<std::optional<Error>> errors(rows.size());  // Rows of an answer are on many threads.
  use_logits(*engine_, rows, [&](std::size_t i, std::span<const float> logits) {
    try {
      places[i].first->take_row(places[i].second, logits);
    } catch (const Error& error) {
      errors[i] = error;
    }
  });
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (errors[i]) places[i].first->fail(*errors[i]);
  }
  for (RunningAnswer* answer : computed_) answer->end_rows();
}

void Scheduler::Impl::draw() {
  computed_.clear();
  for (RunningAnswer& answer : running_) {
    if (answer.wants_token()) computed_.push_back(&answer);
  }
  if (computed_.size() < kFullHeadRows) {
    for (RunningAnswer* answer : computed_) draw_alone(*answer);
    return;
  }
  const auto most = static_cast<std::size_t>(engine_->logits.most_rows());
  for (std::size_t begin = 0; begin < computed_.size(); begin += most) {
    const std::size_t count = std::min(most, computed_.size() - begin);
    draw_rows(std::span(computed_).subspan(begin, count));
  }
}

void Scheduler::Impl::draw_alone(RunningAnswer& answer) {
  try {
    const HiddenRow last = answer.sequence.last_row();
    if (answer.wants_logprobs()) engine_->logits.compute({&last, 1});
    const TokenId id =
        answer.sequence.draw_in_turn(answer.sequence.ids, answer.drawable(), answer.sampling());
    if (answer.wants_logprobs()) answer.note(id, engine_->logits.all(last.number));
    answer.take(id);
  } catch (const Error& error) {
    answer.fail(error);
  }
}

/// All logits of all rows in one product, then every row's draw on a thread of its own.
void Scheduler::Impl::draw_rows(std::span<RunningAnswer* const> answers) {
  rows_.clear();
  for (const RunningAnswer* answer : answers) rows_.push_back(answer->sequence.last_row());
  engine_->logits.compute(rows_);
  std::vector<TokenId> drawn(answers.size());
  engine_->team.run([&](Worker& worker) {
    worker.for_each(static_cast<int>(answers.size()), [&](int task) {
      const auto i = static_cast<std::size_t>(task);
      RunningAnswer& answer = *answers[i];
      const std::vector<TokenId>& ids = answer.sequence.ids;
      Sampler& sampler = engine_->samplers[static_cast<std::size_t>(worker.index())];
      const std::span<const float> logits = engine_->logits.all(rows_[i].number);
      try {
        drawn[i] =
            sampler.sample(logits.first(answer.drawable()), ids, answer.sampling(), ids.size());
        if (answer.wants_logprobs()) answer.note(drawn[i], logits);
      } catch (const Error& error) {
        answer.fail(error);
      }
    });
  });
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (!answers[i]->finished()) answers[i]->take(drawn[i]);
  }
}

std::vector<Answer> Scheduler::Impl::collect() {
  std::vector<Answer> answers;
  for (auto answer = running_.begin(); answer != running_.end();) {
    if (!answer->finished()) {
      ++answer;
      continue;
    }
    answers.push_back(answer->answer());
    answer = running_.erase(answer);
  }
  return answers;
}

Scheduler::Scheduler() noexcept = default;
Scheduler::Scheduler(const Engine& engine, const SchedulerOptions& options)
    : impl_(at_boundary([&] { return std::make_unique<Impl>(engine.core(), options); })) {}
Scheduler::~Scheduler() = default;
Scheduler::Scheduler(Scheduler&&) noexcept = default;
Scheduler& Scheduler::operator=(Scheduler&&) noexcept = default;

Scheduler::Impl& Scheduler::impl() const {
  if (impl_ == nullptr) at_boundary([] { throw_empty(Impl::kName); });
  return *impl_;
}

std::uint64_t Scheduler::add(Request request) {
  return use(impl_.get(), Impl::kName, [&](Impl& own) { return own.add(std::move(request)); });
}

std::vector<Answer> Scheduler::step() {
  return use(impl_.get(), Impl::kName, [](Impl& own) { return own.step(); });
}

std::size_t Scheduler::waiting() const { return impl().waiting(); }
std::size_t Scheduler::running() const { return impl().running(); }
std::size_t Scheduler::parallel() const { return static_cast<std::size_t>(impl().parallel()); }

}  // namespace lapidary
