#include "line_editor.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <cwchar>
#include <deque>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/utf8.h"
#include "terminal.h"
#include "text_file.h"

#if LAPIDARY_EDIT
#include <histedit.h>
#include <langinfo.h>

#include "history_file.h"
#endif

namespace cli {

#if LAPIDARY_EDIT
namespace {

// libedit decodes what is typed by the locale. Any locale's text is UTF-8 here, so one that is not
// gives way.
void use_utf8_locale() {
  std::setlocale(LC_CTYPE, "");
  for (const char* name : {"C.UTF-8", "en_US.UTF-8"}) {
    if (std::string_view(nl_langinfo(CODESET)) == "UTF-8") return;
    std::setlocale(LC_CTYPE, name);
  }
}

// What stands behind a character and belongs to it: accents, the joiner of emoji, skin tones, and
// the choice of how one is drawn.
bool continues(wchar_t c) {
  return c == 0x200D || (c >= 0xFE00 && c <= 0xFE0F) || (c >= 0x1F3FB && c <= 0x1F3FF) ||
         (c > 0x7F && wcwidth(c) == 0);
}

bool is_regional(wchar_t c) { return c >= 0x1F1E6 && c <= 0x1F1FF; }

// How many of the last characters of `text` are one to the eye.
std::size_t last_cluster(std::wstring_view text) {
  std::size_t at = text.size();
  while (at > 0) {
    --at;
    if (continues(text[at])) continue;
    const bool joined = at > 0 && text[at - 1] == 0x200D;
    if (!joined) break;
  }
  if (at > 0 && text.size() - at == 1 && is_regional(text[at]) && is_regional(text[at - 1])) --at;
  return text.size() - at;
}

constexpr wchar_t kPasteEnd[] = L"\x1b[201~";

std::wstring widen(const std::string& text) {
  std::wstring wide(text.size(), L'\0');
  const std::size_t size = std::mbstowcs(wide.data(), text.c_str(), wide.size());
  wide.resize(size == static_cast<std::size_t>(-1) ? 0 : size);
  return wide;
}

}  // namespace

class LineEditor::Terminal {
 public:
  explicit Terminal(Completer completer)
      : completer_(std::move(completer)), history_(history_init()) {
    use_utf8_locale();
    editor_ = el_init("lapidary", stdin, stderr, stderr);
    HistEvent event;
    history(history_, &event, H_SETSIZE, HistoryFile::kMostEntries);
    history(history_, &event, H_SETUNIQUE, 1);
    file_.load(history_);
    el_set(editor_, EL_CLIENTDATA, this);
    el_set(editor_, EL_PROMPT, &Terminal::prompt);
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_SIGNAL, 1);
    el_set(editor_, EL_HIST, history, history_);
    el_set(editor_, EL_GETCFN, &Terminal::get_character);
    // The wide form, since el_set() leaks its copies of these strings.
    el_wset(editor_, EL_ADDFN, L"lapidary-paste", L"Insert pasted text as it is", &Terminal::paste);
    el_wset(editor_, EL_ADDFN, L"lapidary-complete", L"Complete a command or a file",
            &Terminal::complete);
    el_wset(editor_, EL_ADDFN, L"lapidary-erase", L"Erase what looks like one character",
            &Terminal::erase);
    bind("\\e[200~", "lapidary-paste");
    bind("\t", "lapidary-complete");
    bind("^?", "lapidary-erase");
    bind("^H", "lapidary-erase");
    bind("\\e[3~", "ed-delete-next-char");
    bind("\\e[H", "ed-move-to-beg");
    bind("\\e[F", "ed-move-to-end");
    bind("^R", "em-inc-search-prev");
    bind("^W", "ed-delete-prev-word");
  }
  ~Terminal() {
    el_end(editor_);
    history_end(history_);
    file_.shorten();
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  Event read(const std::string& prompt, std::string& line, const std::string& draft) {
    prompt_ = prompt;
    typed_ = false;
    had_text_ = false;
    // A draft comes in as if it were pasted, so that its newlines do not send it.
    pending_.clear();
    if (!draft.empty()) {
      for (const wchar_t c : L"\x1b[200~" + widen(draft) + kPasteEnd) pending_.push_back(c);
    }
    interrupted = false;
    // Before the prompt: a Ctrl-D that is typed as soon as it stands must find the keys in our
    // hands.
    el_set(editor_, EL_PREP_TERM, 1);
    write_all(STDERR_FILENO, "\x1b[?2004h");
    int count = 0;
    const char* text = el_gets(editor_, &count);
    write_all(STDERR_FILENO, "\x1b[?2004l");
    if (interrupted.exchange(false)) {
      write_all(STDERR_FILENO, "\n");
      return had_text_ ? Event::kCleared : Event::kInterrupt;
    }
    if (text == nullptr || count <= 0) {
      write_all(STDERR_FILENO, "\n");
      return Event::kEnd;
    }
    line.assign(text, static_cast<std::size_t>(count));
    if (line.back() == '\n') line.pop_back();
    return Event::kLine;
  }

  void remember(const std::string& entry) {
    HistEvent event;
    history(history_, &event, H_ENTER, entry.c_str());
    file_.append(entry);
  }

  bool typed() const { return typed_; }

 private:
  static Terminal& self(EditLine* editor) {
    void* data = nullptr;
    el_get(editor, EL_CLIENTDATA, &data);
    return *static_cast<Terminal*>(data);
  }

  static char* prompt(EditLine* editor) { return self(editor).prompt_.data(); }

  void bind(const char* key, const char* function) {
    el_set(editor_, EL_BIND, key, function, nullptr);
  }

  // 1: a character; 0: end of the input; -1: interrupted.
  static int get_character(EditLine* editor, wchar_t* character) {
    std::deque<wchar_t>& pending = self(editor).pending_;
    if (!pending.empty()) {
      *character = pending.front();
      pending.pop_front();
      return 1;
    }
    std::mbstate_t state = {};
    for (;;) {
      if (interrupted) {
        const LineInfoW* line = el_wline(editor);
        self(editor).had_text_ = line->lastchar > line->buffer;
        return -1;
      }
      char byte = 0;
      const ssize_t got = ::read(STDIN_FILENO, &byte, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return static_cast<int>(got);
      self(editor).typed_ = true;
      const std::size_t used = std::mbrtowc(character, &byte, 1, &state);
      if (used == static_cast<std::size_t>(-2))
        continue;  // More bytes of this character are to come.
      if (used == static_cast<std::size_t>(-1)) {
        state = {};
        continue;  // No UTF-8: not typed by anyone.
      }
      return 1;
    }
  }

  static unsigned char paste(EditLine* editor, int) {
    constexpr std::size_t kEnd = sizeof kPasteEnd / sizeof(wchar_t) - 1;
    std::wstring text;
    wchar_t c = 0;
    while (el_wgetc(editor, &c) == 1) {
      text += c == L'\r' ? L'\n' : c;
      if (text.size() >= kEnd && text.compare(text.size() - kEnd, kEnd, kPasteEnd) == 0) {
        text.resize(text.size() - kEnd);
        break;
      }
    }
    std::erase_if(text, [](wchar_t w) {
      return (w < L' ' && w != L'\n' && w != L'\t') || (w >= 0x7F && w < 0xA0);
    });
    while (!text.empty() && text.back() == L'\n') text.pop_back();
    if (!text.empty()) el_winsertstr(editor, text.c_str());
    return CC_REFRESH;
  }

  static unsigned char complete(EditLine* editor, int) {
    const LineInfo* line = el_line(editor);
    const std::string before(line->buffer, line->cursor);
    const std::vector<std::string> found = self(editor).completer_(before);
    if (found.empty()) return CC_REFRESH_BEEP;
    std::string common = found.front();
    for (const std::string& one : found) {
      const auto [end, other] = std::ranges::mismatch(common, one);
      common.erase(end, common.end());
    }
    // Not between the bytes of a character.
    while (lapidary::find_invalid_utf8(common)) common.pop_back();
    if (common.size() > before.size()) {
      el_insertstr(editor, common.c_str() + before.size());
      return CC_REFRESH;
    }
    // Nothing is sure: what there is to choose from, by its last part.
    std::string list = "\n";
    const std::size_t shown = before.find_last_of(" /") + 1;
    for (const std::string& one : found) {
      list += one.substr(shown, one.find_last_not_of(' ') + 1 - shown) + "  ";
    }
    write_all(STDERR_FILENO, printable(list) + "\n");
    return CC_REDISPLAY;
  }

  // Backspace takes what looks like one character: a letter with its accents, or an emoji of
  // several that are joined.
  static unsigned char erase(EditLine* editor, int) {
    const LineInfoW* line = el_wline(editor);
    const std::wstring_view before(line->buffer,
                                   static_cast<std::size_t>(line->cursor - line->buffer));
    const std::size_t count = last_cluster(before);
    if (count == 0) return CC_ERROR;
    el_wdeletestr(editor, static_cast<int>(count));
    return CC_REFRESH;
  }

  Completer completer_;
  EditLine* editor_ = nullptr;
  History* history_;
  HistoryFile file_;
  bool typed_ = false;
  bool had_text_ = false;  // When it was interrupted.
  std::string prompt_;
  std::deque<wchar_t> pending_;
};

#else
// Without libedit a line is edited as far as the terminal itself does, and there is no history.
class LineEditor::Terminal {
 public:
  explicit Terminal(const Completer& /*unused*/) {}
  static bool typed() { return false; }
  static void remember(const std::string& /*unused*/) {}
};
#endif

LineEditor::LineEditor(Completer completer) {
  if (isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1)
    terminal_ = std::make_unique<Terminal>(std::move(completer));
}
LineEditor::~LineEditor() = default;

bool LineEditor::terminal() const { return terminal_ != nullptr; }

bool LineEditor::typed() const { return terminal_ != nullptr && terminal_->typed(); }

void LineEditor::remember(const std::string& entry) {
  if (terminal_ && !entry.empty()) terminal_->remember(entry);
}

LineEditor::Event LineEditor::read(const std::string& prompt, std::string& line,
                                   const std::string& draft) {
  std::string before;
#if LAPIDARY_EDIT
  if (terminal_) return terminal_->read(prompt, line, draft);
#else
  if (terminal_) write_all(STDERR_FILENO, prompt + draft), before = draft;
#endif
  line.clear();
  for (;;) {
    if (const std::size_t end = buffer_.find('\n'); end != std::string::npos) {
      line = before + take_line(end);
      buffer_.erase(0, 1);
      return Event::kLine;
    }
    char bytes[4096];
    const ssize_t got = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (interrupted.exchange(false)) return Event::kInterrupt;
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      line = before + take_line(buffer_.size());
      return line.empty() ? Event::kEnd : Event::kLine;
    }
    buffer_.append(bytes, static_cast<std::size_t>(got));
  }
}

std::string LineEditor::take_line(std::size_t end) {
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end);
  if (first_) line = without_mark(std::move(line));
  first_ = false;
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

}  // namespace cli
