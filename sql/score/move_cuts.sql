SELECT mart.move_cuts()
