#pragma once

#include <cstdint>
#include <string_view>

/// Types of tensors that files may have and that are not read, for messages.
namespace lapidary {

/// Whose a type is, and so what can be done about it.
enum class TypeOrigin : std::uint8_t {
  kGgml,     // GGML has it; no published file of these models does.
  kRemoved,  // GGML had it once: files were made of it that have to be made again.
  kIkLlama,  // ik_llama.cpp's own.
};

struct OtherType {
  std::uint32_t number;
  std::string_view name;
  TypeOrigin origin = TypeOrigin::kGgml;
};

// clang-format off
inline constexpr OtherType kOtherTypes[] = {
    {9, "Q8_1"}, {15, "Q8_K"}, {24, "I8"}, {25, "I16"}, {26, "I32"}, {27, "I64"}, {28, "F64"},
    {40, "NVFP4"}, {41, "Q1_0"}, {42, "Q2_0"},
    {4, "Q4_2", TypeOrigin::kRemoved}, {5, "Q4_3", TypeOrigin::kRemoved},
    {31, "Q4_0_4_4", TypeOrigin::kRemoved}, {32, "Q4_0_4_8", TypeOrigin::kRemoved},
    {33, "Q4_0_8_8", TypeOrigin::kRemoved}, {36, "IQ4_NL_4_4 or I2_S", TypeOrigin::kRemoved},
    {37, "IQ4_NL_4_8", TypeOrigin::kRemoved}, {38, "IQ4_NL_8_8", TypeOrigin::kRemoved},
    {97, "Q8_0_X4", TypeOrigin::kIkLlama}, {98, "Q8_1_X4", TypeOrigin::kIkLlama},
    {99, "Q8_2_X4", TypeOrigin::kIkLlama}, {133, "Q6_0", TypeOrigin::kIkLlama},
    {134, "IQ1_BN", TypeOrigin::kIkLlama}, {135, "IQ2_BN", TypeOrigin::kIkLlama},
    {136, "Q8_K64", TypeOrigin::kIkLlama}, {137, "IQ2_K", TypeOrigin::kIkLlama},
    {138, "IQ3_K", TypeOrigin::kIkLlama}, {139, "IQ4_K", TypeOrigin::kIkLlama},
    {140, "IQ5_K", TypeOrigin::kIkLlama}, {141, "IQ6_K", TypeOrigin::kIkLlama},
    {144, "IQ4_KS", TypeOrigin::kIkLlama}, {145, "IQ2_KS", TypeOrigin::kIkLlama},
    {146, "IQ4_KSS", TypeOrigin::kIkLlama}, {147, "Q8_K16", TypeOrigin::kIkLlama},
    {148, "Q8_K32", TypeOrigin::kIkLlama}, {149, "Q8_KR8", TypeOrigin::kIkLlama},
    {150, "Q8_K128", TypeOrigin::kIkLlama}, {151, "Q8_KV", TypeOrigin::kIkLlama},
    {152, "IQ5_KS", TypeOrigin::kIkLlama}, {153, "IQ2_KT", TypeOrigin::kIkLlama},
    {154, "IQ3_KT", TypeOrigin::kIkLlama}, {155, "IQ4_KT", TypeOrigin::kIkLlama},
    {156, "IQ3_KS", TypeOrigin::kIkLlama}, {157, "IQ2_KL", TypeOrigin::kIkLlama},
    {158, "IQ1_KT", TypeOrigin::kIkLlama}, {202, "Q4_0_R8", TypeOrigin::kIkLlama},
    {206, "Q5_0_R4", TypeOrigin::kIkLlama}, {208, "Q8_0_R8", TypeOrigin::kIkLlama},
    {210, "Q2_K_R4", TypeOrigin::kIkLlama}, {211, "Q3_K_R4", TypeOrigin::kIkLlama},
    {212, "Q4_K_R4", TypeOrigin::kIkLlama}, {213, "Q5_K_R4", TypeOrigin::kIkLlama},
    {214, "Q6_K_R4", TypeOrigin::kIkLlama}, {216, "IQ2_XXS_R4", TypeOrigin::kIkLlama},
    {217, "IQ2_XS_R4", TypeOrigin::kIkLlama}, {218, "IQ3_XXS_R4", TypeOrigin::kIkLlama},
    {219, "IQ1_S_R4", TypeOrigin::kIkLlama}, {220, "IQ4_NL_R4", TypeOrigin::kIkLlama},
    {221, "IQ3_S_R4", TypeOrigin::kIkLlama}, {222, "IQ2_S_R4", TypeOrigin::kIkLlama},
    {223, "IQ4_XS_R8", TypeOrigin::kIkLlama}, {229, "IQ1_M_R4", TypeOrigin::kIkLlama},
    {230, "BF16_R16", TypeOrigin::kIkLlama}, {233, "Q6_0_R4", TypeOrigin::kIkLlama},
    {335, "IQ2_BN_R4", TypeOrigin::kIkLlama}, {337, "IQ2_K_R4", TypeOrigin::kIkLlama},
    {338, "IQ3_K_R4", TypeOrigin::kIkLlama}, {339, "IQ4_K_R4", TypeOrigin::kIkLlama},
    {340, "IQ5_K_R4", TypeOrigin::kIkLlama}, {344, "IQ4_KS_R4", TypeOrigin::kIkLlama},
    {352, "IQ5_KS_R4", TypeOrigin::kIkLlama}, {397, "Q8_K_R16", TypeOrigin::kIkLlama},
    {398, "Q8_KV_R8", TypeOrigin::kIkLlama}, {399, "Q8_K_R8", TypeOrigin::kIkLlama},
};
// clang-format on

}  // namespace lapidary
