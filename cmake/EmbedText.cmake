# cmake -DINPUT=file -DOUTPUT=file.cpp -DDECLARATION="extern const char name[]" -P EmbedText.cmake
# A text file as a string constant of the program.
file(READ ${INPUT} text)
file(WRITE ${OUTPUT} "${DECLARATION};\n${DECLARATION} = R\"embedded(${text})embedded\";\n")
