#include "lapidary/image.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "gguf_builder.h"
#include "lapidary/error.h"
#include "test_data.h"
#include "vision/decode.h"

namespace lapidary {
namespace {

using namespace std::string_view_literals;
using test::read_file;
using test::TempFile;

const std::string kData = test_data("vision/");

Image decode(std::string_view bytes) {
  return Image::decode(std::as_bytes(std::span(bytes)), "it");
}

/// The message of the Error(kFile) that `action` throws: one line.
std::string file_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFile) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

std::string decode_error(std::string_view bytes) {
  return file_error([&] { decode(bytes); });
}

bool same_pixels(const Image& a, const Image& b) {
  return a.width() == b.width() && a.height() == b.height() && std::ranges::equal(a.rgb(), b.rgb());
}

std::string fnv1a(std::span<const std::uint8_t> bytes) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const std::uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
  std::ostringstream out;
  out << std::hex;
  out.width(16);
  out.fill('0');
  out << hash;
  return out.str();
}

struct Case {
  std::string file;
  int width;
  int height;
  std::string limit;  // "=" or a number
  std::string expected;
  int step = 1;
};

std::vector<Case> cases() {
  std::ifstream in(kData + "decode/index.tsv");
  std::vector<Case> out;
  Case line;
  while (in >> line.file >> line.width >> line.height >> line.limit) {
    if (line.limit != "=") in >> line.step;
    in >> line.expected;
    out.push_back(line);
  }
  EXPECT_GT(out.size(), 80U);
  return out;
}

/// The small pictures of decode/.
std::vector<std::string> small_files() {
  std::vector<std::string> files;
  for (const Case& line : cases()) {
    const std::string path = kData + line.file;
    if (std::filesystem::file_size(path) < 2048) files.push_back(path);
  }
  EXPECT_GT(files.size(), 70U);
  return files;
}

/// The greatest difference of a byte between `expected` and every step-th pixel of `image`.
int difference(const Image& image, const Image& expected, int step) {
  EXPECT_EQ(expected.width(), (image.width() + step - 1) / step);
  EXPECT_EQ(expected.height(), (image.height() + step - 1) / step);
  int most = 0;
  for (int y = 0; y < expected.height(); ++y) {
    for (int x = 0; x < expected.width(); ++x) {
      for (int c = 0; c < 3; ++c) {
        const auto at = static_cast<std::size_t>((y * step * image.width() + x * step) * 3 + c);
        const auto from = static_cast<std::size_t>((y * expected.width() + x) * 3 + c);
        most = std::max(most, std::abs(image.rgb()[at] - expected.rgb()[from]));
      }
    }
  }
  return most;
}

TEST(Image, LikePillow) {
  for (const Case& line : cases()) {
    SCOPED_TRACE(line.file);
    const Image image = Image::load(kData + line.file, {.alpha = ImageLoadOptions::Alpha::kDrop});
    ASSERT_EQ(image.width(), line.width);
    ASSERT_EQ(image.height(), line.height);
    if (line.limit == "=") {
      EXPECT_EQ(fnv1a(image.rgb()), line.expected);
    } else {
      const Image expected = Image::load(kData + line.expected);
      EXPECT_LE(difference(image, expected, line.step), std::stoi(line.limit));
    }
  }
}

#ifdef LAPIDARY_HEIF
constexpr bool kHeif = true;
#else
constexpr bool kHeif = false;
#endif
#ifdef LAPIDARY_TIFF
constexpr bool kTiff = true;
#else
constexpr bool kTiff = false;
#endif

TEST(Image, TransparencyIsShownOnWhite) {
  std::ifstream in(kData + "on_white/index.tsv");
  Case line;
  int count = 0;
  while (in >> line.file >> line.width >> line.height >> line.limit >> line.expected) {
    SCOPED_TRACE(line.file);
    const bool tiff = line.file.ends_with(".tif");
    const bool heif = line.file.ends_with(".heic") || line.file.ends_with(".avif");
    ++count;
    if ((tiff && !kTiff) || (heif && !kHeif)) {
      EXPECT_NE(file_error([&] { Image::load(kData + line.file); }).find("built without"),
                std::string::npos);
      continue;
    }
    const Image image = Image::load(kData + line.file);
    ASSERT_EQ(image.width(), line.width);
    ASSERT_EQ(image.height(), line.height);
    EXPECT_LE(difference(image, Image::load(kData + line.expected), 1), std::stoi(line.limit));
  }
  EXPECT_GT(count, 25);
}

/// One row of `pixels`, without compression; their last byte is alpha beside the colours.
std::string tiff_with_alpha(std::uint32_t samples, const std::vector<std::uint8_t>& pixels) {
  std::string file("II*\0\x08\0\0\0", 8);
  const auto put = [&](std::uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) file += static_cast<char>(value >> (8 * i));
  };
  constexpr std::uint32_t kEntries = 10;
  const std::uint32_t data = 8 + 2 + kEntries * 12 + 4;
  const std::uint32_t size = static_cast<std::uint32_t>(pixels.size());
  const bool grey = samples == 2;
  // Tag and value; a value of four equal numbers does not fit and is left out: one bit depth is
  // taken for all.
  const std::uint32_t entries[kEntries][2] = {
      {256, size / samples}, {257, 1},       {258, 8}, {259, 1},    {262, grey ? 1U : 2U},
      {273, data},           {277, samples}, {278, 1}, {279, size}, {338, 2}};
  put(kEntries, 2);
  for (const auto& [tag, value] : entries) {
    put(tag, 2);
    put(4, 2);  // A 32-bit number,
    put(1, 4);  // one of it.
    put(value, 4);
  }
  put(0, 4);
  file.append(pixels.begin(), pixels.end());
  return file;
}

TEST(Image, AlphaBesideTheColoursOfATiff) {
  if (!kTiff) GTEST_SKIP() << "built without libtiff";
  const auto rgb = [](const std::string& file, ImageLoadOptions::Alpha alpha) {
    const Image image = Image::decode(std::as_bytes(std::span(file)), "it", {.alpha = alpha});
    return std::vector<std::uint8_t>(image.rgb().begin(), image.rgb().end());
  };
  using Alpha = ImageLoadOptions::Alpha;
  using Bytes = std::vector<std::uint8_t>;
  const std::string colours =
      tiff_with_alpha(4, {200, 100, 0, 0, 200, 100, 0, 255, 200, 100, 0, 51});
  EXPECT_EQ(rgb(colours, Alpha::kDrop), (Bytes{200, 100, 0, 200, 100, 0, 200, 100, 0}));
  EXPECT_EQ(rgb(colours, Alpha::kOnWhite), (Bytes{255, 255, 255, 200, 100, 0, 244, 224, 204}));
  const std::string grey = tiff_with_alpha(2, {100, 0, 100, 255, 100, 51});
  EXPECT_EQ(rgb(grey, Alpha::kDrop), (Bytes{100, 100, 100, 100, 100, 100, 100, 100, 100}));
  EXPECT_EQ(rgb(grey, Alpha::kOnWhite), (Bytes{255, 255, 255, 100, 100, 100, 224, 224, 224}));
}

TEST(Image, DamagedFilesOfOtherLibraries) {
  for (const char* name : {"lzw.tif", "alpha.tif", "rgb.heic", "alpha.avif"}) {
    SCOPED_TRACE(name);
    std::string bytes = read_file(kData + "on_white/" + name);
    for (std::size_t size = 0; size < bytes.size(); size += 1 + bytes.size() / 97) {
      try {
        decode(std::string_view(bytes).substr(0, size));
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kFile) << error.what();
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      }
    }
  }
}

TEST(Image, MemoryIsLimited) {
  const auto load = [](const std::string& file, std::uint64_t limit) {
    return Image::load(kData + file, {.memory_limit = limit});
  };
  for (const char* file : {"decode/rgba8.png", "decode/420.jpg", "decode/progressive.jpg",
                           "decode/lossy-alpha.webp", "decode/rgb24.bmp", "decode/palette.gif"}) {
    SCOPED_TRACE(file);
    try {
      load(file, std::filesystem::file_size(kData + file) + 100);
      ADD_FAILURE() << "nothing was refused";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kMemory) << error.what();
    }
    EXPECT_GT(load(file, 100'000).width(), 0);
  }
}

TEST(Image, TheBytesTellTheFormat) {
  for (const char* name : {"444.jpg", "rgb8.png", "rgb24.bmp", "palette.gif", "lossless.webp"}) {
    const std::string bytes = read_file(kData + "decode/" + name);
    const TempFile file(bytes);  // Without an extension.
    const std::string misnamed = file.path() + (bytes[0] == 'G' ? ".png" : ".gif");
    std::filesystem::copy_file(file.path(), misnamed);
    EXPECT_TRUE(same_pixels(Image::load(misnamed), decode(bytes))) << name;
    std::filesystem::remove(misnamed);
  }
}

// A picture that is cut anywhere is an error, or (where only an end mark is missing) whole.
TEST(Image, Truncated) {
  for (const std::string& path : small_files()) {
    SCOPED_TRACE(path);
    const std::string bytes = read_file(path);
    const Image whole = decode(bytes);
    std::size_t accepted = 0;
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      try {
        EXPECT_TRUE(same_pixels(decode(std::string_view(bytes).substr(0, length)), whole))
            << length;
        ++accepted;
      } catch (const Error& error) {
        ASSERT_EQ(error.code(), ErrorCode::kFile) << error.what();
        ASSERT_TRUE(std::string_view(error.what()).starts_with("it: ")) << error.what();
      }
    }
    // Of a GIF with several frames, all but the first.
    const std::size_t most = path.ends_with(".gif") ? bytes.size() * 3 / 4 : 3;
    EXPECT_LE(accepted, most);
  }
}

TEST(Image, FlippedBytes) {
  std::size_t refused = 0;
  for (const std::string& path : small_files()) {
    SCOPED_TRACE(path);
    std::string bytes = read_file(path);
    for (char& byte : bytes) {
      for (const int mask : {0x01, 0x80, 0xff}) {
        byte = static_cast<char>(byte ^ mask);
        try {
          const Image image = decode(bytes);
          EXPECT_EQ(image.rgb().size(),
                    static_cast<std::size_t>(image.width() * image.height() * 3));
        } catch (const Error& error) {
          ASSERT_EQ(error.code(), ErrorCode::kFile) << error.what();
          ++refused;
        }
        byte = static_cast<char>(byte ^ mask);
      }
    }
  }
  EXPECT_GT(refused, 10'000U);
}

// What follows builds hostile files.

std::string be32(std::uint64_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
          static_cast<char>(value >> 8), static_cast<char>(value)};
}

std::string le32(std::uint64_t value) {
  std::string text = be32(value);
  std::ranges::reverse(text);
  return text;
}

std::string chunk(const std::string& type, const std::string& data) {
  std::uint32_t crc = ~0U;
  for (const char letter : type + data) {
    crc ^= static_cast<std::uint8_t>(letter);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xedb88320U & (0U - (crc & 1)));
  }
  return be32(data.size()) + type + data + be32(~crc);
}

/// An RGB picture of 8 bits around zlib data.
std::string png(std::uint64_t width, std::uint64_t height, const std::string& data) {
  return std::string("\x89PNG\r\n\x1a\n"sv) +
         chunk("IHDR", be32(width) + be32(height) + std::string("\x08\x02\0\0\0"sv)) +
         chunk("IDAT", data) + chunk("IEND", "");
}

/// zlib data that becomes 258 × `runs` + 1 zero bytes, 159 times as many as it has.
std::string zlib_zeros(std::size_t runs) {
  std::string out = "\x78\x01";
  std::uint64_t buffer = 0;
  int bits = 0;
  const auto put = [&](std::uint64_t value, int count) {
    buffer |= value << bits;
    for (bits += count; bits >= 8; bits -= 8, buffer >>= 8) out += static_cast<char>(buffer);
  };
  put(0b011, 3);                                               // The last block, in fixed codes.
  put(0b00001100, 8);                                          // A zero.
  for (std::size_t i = 0; i < runs; ++i) put(0b10100011, 13);  // 258 more, at distance 1.
  put(0, 7);                                                   // The end.
  put(0, 8);
  return out + std::string(4, '\0');
}

std::string bmp(std::uint64_t width, std::uint64_t height) {
  return "BM" + le32(0) + le32(0) + le32(54) + le32(40) + le32(width) + le32(height) +
         std::string("\1\0\x18\0"sv) + std::string(24, '\0');
}

/// A JPEG of `decode/` with another size in its frame header.
std::string jpeg_of_size(const std::string& name, int width, int height) {
  std::string bytes = read_file(kData + "decode/" + name);
  std::size_t at = bytes.find("\xff\xc0"sv);
  if (at == std::string::npos) at = bytes.find("\xff\xc2"sv);
  bytes[at + 5] = static_cast<char>(height >> 8);
  bytes[at + 6] = static_cast<char>(height);
  bytes[at + 7] = static_cast<char>(width >> 8);
  bytes[at + 8] = static_cast<char>(width);
  return bytes;
}

TEST(Image, TooManyPixels) {
  const std::string many = "it: expected at most 100 megapixels, found ";
  EXPECT_EQ(decode_error(png(50'000, 50'000, "x")), many + "50000x50000");
  EXPECT_EQ(decode_error(png(0xffffffff, 0xffffffff, "x")), many + "4294967295x4294967295");
  EXPECT_EQ(decode_error(bmp(50'000, 50'000)), many + "50000x50000");
  EXPECT_EQ(decode_error(bmp(50'000, 0x80000000)), many + "50000x2147483648");
  EXPECT_EQ(decode_error(jpeg_of_size("444.jpg", 50'000, 50'000)), many + "50000x50000");
  EXPECT_EQ(decode_error(jpeg_of_size("progressive.jpg", 50'000, 50'000)), many + "50000x50000");
  EXPECT_EQ(decode_error("GIF89a\xff\xff\xff\xff\0\0\0"sv), many + "65535x65535");
  // VP8L: 14 bits of each side.
  EXPECT_EQ(decode_error(
                "RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f\xff\xff\xff\x0f\0\0\0\0\0\0\0\0\0\0\0\0\0"sv),
            many + "16384x16384");
  EXPECT_EQ(decode_error(png(20'000'000, 1, "x")),
            "it: expected sides of at most 16777216 pixels in this format, found 20000000x1");
  EXPECT_NE(decode_error(jpeg_of_size("444.jpg", 65'535, 1)).find("65500"), std::string::npos);
  // Not too many, but not there either.
  EXPECT_NE(decode_error(bmp(10'000, 10'000)).find("damaged or truncated BMP"), std::string::npos);
}

TEST(Image, NoPixels) {
  const std::string none = "it: expected a picture with pixels, found ";
  EXPECT_EQ(decode_error(png(0, 5, "x")), none + "0x5");
  EXPECT_EQ(decode_error(bmp(5, 0)), none + "5x0");
  EXPECT_EQ(decode_error("GIF89a\0\0\5\0\0\0\0"sv), none + "0x5");
  EXPECT_NE(decode_error(jpeg_of_size("444.jpg", 5, 0)).find("damaged"), std::string::npos);
}

// 800 KB of a picture of one pixel must not take 130 MB of memory; a few bytes too many may come.
TEST(Image, PngThatExpands) {
  EXPECT_EQ(decode(png(1, 1, zlib_zeros(1))).rgb()[2], 0);
  EXPECT_NE(decode_error(png(1, 1, zlib_zeros(500'000))).find("damaged or truncated PNG"),
            std::string::npos);
}

TEST(Image, PngThatIsDamaged) {
  const std::string good = png(1, 1, zlib_zeros(1));
  std::string bad = good;
  bad[good.find("IDAT") + 6] ^= 1;
  EXPECT_EQ(decode_error(bad),
            "it: a damaged or truncated PNG: the checksum of its chunk IDAT is wrong");
  const std::string body(good.begin() + 8, good.end());
  EXPECT_EQ(decode_error(good.substr(0, 8) + chunk("tEXt", "a") + body),
            "it: a damaged or truncated PNG: its first chunk is not its header");
  const std::size_t data = good.find("IDAT") - 4;
  EXPECT_EQ(decode_error(good.substr(0, data) + chunk("CgBI", "abcd") + good.substr(data)),
            "it: a damaged or truncated PNG: its chunk CgBI is unknown or stands twice");
  EXPECT_EQ(decode_error(png(2, 90, zlib_zeros(1))).substr(0, 31),
            "it: a damaged or truncated PNG:");
}

/// A grey picture of 8×8 in as many progressive scans as asked for, each with a bit of one
/// coefficient.
std::string jpeg_of_scans(int scans) {
  std::string out("\xff\xd8\xff\xdb\0\x43\0"sv);
  out += std::string(64, '\1');
  out += "\xff\xc2\0\x0b\x08\0\x08\0\x08\1\1\x11\0"sv;
  // One code of one bit, for "nothing", in each of both tables.
  for (const char table : {'\0', '\x10'}) {
    out += "\xff\xc4\0\x14"sv;
    out += table;
    out += '\1';
    out += std::string(16, '\0');
  }
  for (int scan = 0; scan < scans; ++scan) {
    const auto coefficient = static_cast<char>(scan % 64);
    out += "\xff\xda\0\x08\1\1\0"sv;
    out += coefficient;
    out += coefficient;
    out += scan < 64 ? '\1' : '\x10';
    out += '\x7f';
  }
  return out + "\xff\xd9";
}

TEST(Image, JpegOfManyScans) {
  EXPECT_EQ(decode(jpeg_of_scans(100)).rgb()[0], 128);
  EXPECT_EQ(decode_error(jpeg_of_scans(101)),
            "it: a damaged or truncated JPEG: it has more than 100 scans");
}

TEST(Image, NotAPicture) {
  const std::string expected =
      "it: expected a PNG, JPEG, WebP, BMP, GIF, HEIC, AVIF or TIFF picture, found ";
  EXPECT_EQ(decode_error(""), expected + "nothing: it is empty");
  EXPECT_EQ(decode_error("A text about BMP.\n"), expected + "text");
  EXPECT_EQ(decode_error("BMP files begin with BM, as this text does.\n"), expected + "text");
  EXPECT_EQ(decode_error("\0\0\0\x1c"
                         "ftypisom\0\0\0\0"sv),
            expected + "a video");
  EXPECT_EQ(decode_error("%PDF-1.7\n"), expected + "PDF");
  EXPECT_EQ(decode_error("\0\1\2\xab"sv),
            expected + "an unknown format that begins with 00 01 02 ab");
  EXPECT_EQ(decode_error("RIFF\x24\0\0\0WAVEfmt "sv),
            expected + "an unknown format that begins with 52 49 46 46 24 00 00 00");
}

TEST(Image, FilesThatCannotBeRead) {
  const std::string folder = std::filesystem::temp_directory_path().string();
  EXPECT_EQ(file_error([&] { Image::load(folder); }),
            folder + ": expected a file, found a directory");
  const std::string missing = folder + "/lapidary-no-such-picture.png";
  EXPECT_EQ(file_error([&] { Image::load(missing); }).find(missing), 0U);
  const TempFile large("GIF89a");
  std::filesystem::resize_file(large.path(), Image::kMaxFileBytes + 1);
  EXPECT_EQ(file_error([&] { Image::load(large.path()); }),
            large.path() + ": expected a picture of at most 64 MiB, found 65 MiB");
}

int orientation(std::string_view exif) {
  return exif_orientation({reinterpret_cast<const std::uint8_t*>(exif.data()), exif.size()});
}

TEST(Image, ExifThatIsDamaged) {
  const std::string good("II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"sv);
  EXPECT_EQ(orientation(good), 6);
  EXPECT_EQ(orientation(std::string("Exif\0\0"sv) + good), 6);
  for (std::size_t length = 0; length < 22; ++length) {
    EXPECT_EQ(orientation(std::string_view(good).substr(0, length)), 1) << length;
  }
  std::string bad = good;
  bad[18] = 9;  // No orientation.
  EXPECT_EQ(orientation(bad), 1);
  bad = good;
  bad[12] = 2;  // A text.
  EXPECT_EQ(orientation(bad), 1);
  bad = good;
  bad[7] = '\xff';  // The directory lies outside.
  EXPECT_EQ(orientation(bad), 1);
  bad = good;
  bad[9] = '\xff';  // More entries than there are bytes.
  EXPECT_EQ(orientation(bad), 6);
}

}  // namespace
}  // namespace lapidary
