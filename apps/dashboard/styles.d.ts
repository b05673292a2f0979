/** @file Style sheets, which the bundler puts beside the code. */
declare module "*.css";
