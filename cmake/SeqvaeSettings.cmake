# How every translation unit of the project is compiled. Applications that link seqvae do not
# inherit any of it but the language standard.
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
find_program(SEQVAE_CCACHE ccache)
if(SEQVAE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The tests' precompiled header, else not cached.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
      ${SEQVAE_CCACHE})
endif()
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

add_library(seqvae_settings INTERFACE)
target_compile_features(seqvae_settings INTERFACE cxx_std_20)
target_include_directories(seqvae_settings INTERFACE ${PROJECT_SOURCE_DIR}
                           ${PROJECT_SOURCE_DIR}/include)
# Contraction off: a fused multiply-add stands where the source says fma, and nowhere else, so
# that draws and densities have the same bits on every machine.
target_compile_options(seqvae_settings INTERFACE -Wall -Wextra -Wpedantic -Werror
                       -Wno-missing-field-initializers -ffp-contract=off)
if(SEQVAE_SANITIZE)
  # But for targets that are compiled with hooks of their own (tests/emulation).
  set(sanitized $<NOT:$<BOOL:$<TARGET_PROPERTY:SEQVAE_OWN_HOOKS>>>)
  target_compile_options(seqvae_settings INTERFACE
    $<${sanitized}:-fsanitize=${SEQVAE_SANITIZE}> $<${sanitized}:-fno-sanitize-recover=all>
    $<${sanitized}:-fno-omit-frame-pointer>)
  target_link_options(seqvae_settings INTERFACE -fsanitize=${SEQVAE_SANITIZE})
endif()
