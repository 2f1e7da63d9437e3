# Embeds the page into the target fr_coordinator: the daemon needs no files of ours beside it.
# Included by coordinator/CMakeLists.txt, after that target exists.

find_file(FR_CHART_JS chart.min.js PATHS /usr/share/javascript/chart.js NO_DEFAULT_PATH
          DOC "Chart.js 3, minified (Debian: libjs-chart.js)")
if(NOT FR_CHART_JS)
  message(FATAL_ERROR "chart.min.js is missing: install the Debian package libjs-chart.js, or "
                      "configure with -DFR_CHART_JS=/path/to/chart.min.js (version 3)")
endif()

file(GLOB FR_DASHBOARD_FILES CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.html
     ${CMAKE_CURRENT_LIST_DIR}/*.css ${CMAKE_CURRENT_LIST_DIR}/*.js ${CMAKE_CURRENT_LIST_DIR}/*.svg)
set(FR_DASHBOARD_CPP ${CMAKE_BINARY_DIR}/generated/coordinator/dashboard_assets.cpp)
set(embed_script ${CMAKE_CURRENT_LIST_DIR}/embed.cmake)
set(embedded ${FR_DASHBOARD_FILES} ${FR_CHART_JS} ${CMAKE_CURRENT_LIST_DIR}/../api/openapi.json)
string(REPLACE ";" "|" files "${embedded}")
add_custom_command(
  OUTPUT ${FR_DASHBOARD_CPP}
  COMMAND ${CMAKE_COMMAND} "-DFILES=${files}" -DOUTPUT=${FR_DASHBOARD_CPP} -P ${embed_script}
  DEPENDS ${embedded} ${embed_script}
  COMMENT "Embedding the dashboard"
  VERBATIM)
target_sources(fr_coordinator PRIVATE ${FR_DASHBOARD_CPP})
