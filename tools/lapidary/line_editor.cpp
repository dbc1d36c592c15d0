#include "line_editor.h"

#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <deque>
#include <filesystem>
#include <string_view>

#include "terminal.h"

namespace cli {

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

// Empty when no home is known: the history then lives in memory only.
std::filesystem::path history_path() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state != '\0') {
    return std::filesystem::path(state) / "lapidary" / "history";
  }
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') return {};
  return std::filesystem::path(home) / ".local" / "state" / "lapidary" / "history";
}

// Makes the file, readable by its owner only, before anything is written to it. False when that
// cannot be done.
bool make_private_file(const std::filesystem::path& path) {
  if (path.empty()) return false;
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return false;
  const bool done = fchmod(file, 0600) == 0;
  ::close(file);
  return done;
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
  Terminal() : history_(history_init()), path_(history_path()) {
    use_utf8_locale();
    editor_ = el_init("lapidary", stdin, stderr, stderr);
    HistEvent event;
    history(history_, &event, H_SETSIZE, 1000);
    history(history_, &event, H_SETUNIQUE, 1);
    if (make_private_file(path_)) {
      history(history_, &event, H_LOAD, path_.c_str());
    } else {
      path_.clear();
    }
    el_set(editor_, EL_CLIENTDATA, this);
    el_set(editor_, EL_PROMPT, &Terminal::prompt);
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_SIGNAL, 1);
    el_set(editor_, EL_HIST, history, history_);
    el_set(editor_, EL_GETCFN, &Terminal::get_character);
    // The wide form, since el_set() leaks its copies of these strings.
    el_wset(editor_, EL_ADDFN, L"lapidary-paste", L"Insert pasted text as it is", &Terminal::paste);
    bind("\\e[200~", "lapidary-paste");
    bind("\\e[3~", "ed-delete-next-char");
    bind("\\e[H", "ed-move-to-beg");
    bind("\\e[F", "ed-move-to-end");
    bind("^R", "em-inc-search-prev");
    bind("^W", "ed-delete-prev-word");
  }
  ~Terminal() {
    el_end(editor_);
    history_end(history_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  Event read(const std::string& prompt, std::string& line, const std::string& draft) {
    prompt_ = prompt;
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
      return Event::kInterrupt;
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
    if (!path_.empty() && make_private_file(path_))
      history(history_, &event, H_SAVE, path_.c_str());
  }

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
      if (interrupted) return -1;
      char byte = 0;
      const ssize_t got = ::read(STDIN_FILENO, &byte, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return static_cast<int>(got);
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

  EditLine* editor_ = nullptr;
  History* history_;
  std::filesystem::path path_;
  std::string prompt_;
  std::deque<wchar_t> pending_;
};

LineEditor::LineEditor() {
  if (isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1)
    terminal_ = std::make_unique<Terminal>();
}
LineEditor::~LineEditor() = default;

bool LineEditor::terminal() const { return terminal_ != nullptr; }

void LineEditor::remember(const std::string& entry) {
  if (terminal_ && !entry.empty()) terminal_->remember(entry);
}

LineEditor::Event LineEditor::read(const std::string& prompt, std::string& line,
                                   const std::string& draft) {
  if (terminal_) return terminal_->read(prompt, line, draft);
  line.clear();
  for (;;) {
    if (const std::size_t end = buffer_.find('\n'); end != std::string::npos) {
      line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return Event::kLine;
    }
    char bytes[4096];
    const ssize_t got = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (interrupted.exchange(false)) return Event::kInterrupt;
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      line.swap(buffer_);
      buffer_.clear();
      return line.empty() ? Event::kEnd : Event::kLine;
    }
    buffer_.append(bytes, static_cast<std::size_t>(got));
  }
}

}  // namespace cli
