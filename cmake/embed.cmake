# A file as a C string: `const char NAME[]`, NUL-terminated, in a generated source whose path *out* receives.
function(ferrum_embed out name file)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1, " bytes "${hex}")
  set(source ${PROJECT_BINARY_DIR}/${name}.c)
  file(CONFIGURE OUTPUT ${source} CONTENT "extern const char ${name}[];\nconst char ${name}[] = {${bytes}0};\n" @ONLY)
  set(${out} ${source} PARENT_SCOPE)
endfunction()
