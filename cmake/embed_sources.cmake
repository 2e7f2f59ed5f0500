# embed_kernel_sources(<target>): compiles every file under kernels/ into <target> as text.
function(embed_kernel_sources target)
  file(GLOB_RECURSE _files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.cuh
       ${PROJECT_SOURCE_DIR}/kernels/*.h)
  set(_out ${CMAKE_CURRENT_BINARY_DIR}/embedded_sources.cpp)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  add_custom_command(
    OUTPUT ${_out}
    COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tools/embed_sources.py
            --root ${PROJECT_SOURCE_DIR}/kernels --out ${_out}
    DEPENDS ${_files} ${PROJECT_SOURCE_DIR}/tools/embed_sources.py
    COMMENT "Embedding kernel sources")
  target_sources(${target} PRIVATE ${_out})
endfunction()
