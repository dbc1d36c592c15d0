# run(COMMAND…): must succeed; leaves its output in `output`, and what it wrote to standard error in `errors`.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE errors)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGN}\nended with ${status}\n${output}\n${errors}")
  endif()
  set(output "${output}" PARENT_SCOPE)
  set(errors "${errors}" PARENT_SCOPE)
endfunction()

# expect_text(WHAT TEXT PART): PART must be in TEXT.
function(expect_text what text part)
  string(FIND "${text}" "${part}" place)
  if(place EQUAL -1)
    message(FATAL_ERROR "${what}: expected '${part}' in:\n${text}")
  endif()
endfunction()

# expect_no_text(WHAT TEXT PART): PART must not be in TEXT.
function(expect_no_text what text part)
  string(FIND "${text}" "${part}" place)
  if(NOT place EQUAL -1)
    message(FATAL_ERROR "${what}: did not expect '${part}' in:\n${text}")
  endif()
endfunction()

# complete(PROGRAM MODEL PROMPT): asks for a completion twice; there must be text, and the same text again.
function(complete program model prompt)
  run(${program} ${model} ${prompt})
  set(first "${output}")
  run(${program} ${model} ${prompt})
  if(first STREQUAL "" OR NOT first STREQUAL output)
    message(FATAL_ERROR "${program} ${model}: expected one text twice, got '${first}' and '${output}'")
  endif()
  message(STATUS "${prompt} →${first}")
endfunction()

# configure(FOLDER BINARY OPTIONS…): with the compiler and generator of the build that is tested.
macro(configure folder binary)
  run(${CMAKE_COMMAND} -S ${folder} -B ${binary} -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${CXX} ${ARGN})
endmacro()
