from vggflow import main

main()
