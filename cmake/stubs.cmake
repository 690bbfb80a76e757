# Generates the Python stubs of every contract under proto/ into the package `ironcore` (messages, services, types)
# and installs them beside the rooms. Nothing generated is ever committed.
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter)

file(GLOB_RECURSE proto_files CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR}/proto ${CMAKE_SOURCE_DIR}/proto/*.proto)
set(proto_paths ${proto_files})
list(TRANSFORM proto_paths PREPEND ${CMAKE_SOURCE_DIR}/proto/)
set(stub_dir ${CMAKE_BINARY_DIR}/stubs)
# protoc finds its mypy plug-ins on PATH: beside the interpreter, or where an isolated build put them.
cmake_path(GET Python_EXECUTABLE PARENT_PATH python_bin)
set(stub_stamp ${stub_dir}/stamp)

add_custom_command(
  OUTPUT ${stub_stamp}
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${stub_dir}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${stub_dir}/ironcore
  COMMAND ${CMAKE_COMMAND} -E env "PATH=${python_bin}:$ENV{PATH}" ${Python_EXECUTABLE} -m grpc_tools.protoc -I${CMAKE_SOURCE_DIR}/proto
          --python_out=${stub_dir} --grpc_python_out=${stub_dir}
          --mypy_out=quiet:${stub_dir} --mypy_grpc_out=quiet:${stub_dir} ${proto_files}
  COMMAND ${CMAKE_COMMAND} -E touch ${stub_dir}/ironcore/py.typed ${stub_stamp}
  DEPENDS ${proto_paths}
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}/proto
  COMMENT "Generating protobuf stubs"
  VERBATIM)
add_custom_target(stubs ALL DEPENDS ${stub_stamp})

install(DIRECTORY ${stub_dir}/ironcore DESTINATION .)
