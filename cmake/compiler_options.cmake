# Flags of every target of this project (not of its users).
add_library(quire_options INTERFACE)
target_compile_options(quire_options INTERFACE -Wall -Wextra -Wshadow=local
  -Wno-missing-field-initializers  # designated initializers leave out what has a default
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)  # GCC 12 warns inside std::string's operator+
if(QUIRE_SANITIZE)
  string(REPLACE "undefined" "undefined,float-cast-overflow" _sanitize "${QUIRE_SANITIZE}")
  # For all targets but those with QUIRE_AS_RELEASED, which the compiler cache has already.
  target_compile_options(quire_options INTERFACE
    "$<$<NOT:$<BOOL:$<TARGET_PROPERTY:QUIRE_AS_RELEASED>>>:-O1;-g1;-UNDEBUG;-fsanitize=${_sanitize};-fno-sanitize-recover=all;-fno-omit-frame-pointer>")
  target_link_options(quire_options INTERFACE -fsanitize=${_sanitize})
endif()
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
