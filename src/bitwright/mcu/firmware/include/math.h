/* For compilers that come without a C library: what generated code may call. */
#ifndef BW_MATH_H
#define BW_MATH_H
double fabs(double x);
double floor(double x);
double fmod(double x, double y);
float rintf(float x);
float roundf(float x);
#endif
